"""Starting from a trained CLIP: its trunks and projections, new wide heads."""

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, CLIPModel

from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead
from sparse_encoder.towers.backbone import BackboneError, first_line
from sparse_encoder.towers.config import ImageTowerConfig, SparseClipConfig, TextTowerConfig
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.open_clip_layout import OpenClipShape, clip_from_open_clip
from sparse_encoder.towers.text import TextTrunk
from sparse_encoder.towers.tokenizer import load_tokenizer
from sparse_encoder.towers.vision import ImageTrunk, with_pixels

_OPEN_CLIP_CONFIG = "open_clip_config.json"
_OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_UNREAD_TEXT = {"no_causal_mask": False, "pool_type": "argmax", "embed_cls": False}


def start_from(
    source: str | Path,
    config: SparseClipConfig,
    *,
    dense_rows: bool = False,
    shape: OpenClipShape | None = None,
) -> SparseClip:
    """A sparse CLIP on the trunks of a trained one, with new heads as `config` asks for.

    source: a Hugging Face CLIP (hub name or folder); the folder of an OpenCLIP model
    (``open_clip_config.json`` beside its weights); or an OpenCLIP checkpoint file, for which
    `shape` says what the file does not (by default open_clip's head width and GELU).

    Of ``config.image`` and ``config.text``, `frozen` and `pool` are kept, the rest is the source's;
    a `projection` of 0 drops the source's projection, so that the head reads the trunk itself. A
    tokenizer in `config` goes before the source's own.

    dense_rows: the first rows of each head become the dense projection with bias 0, so that those
    features' pre_codes are the dense embedding; the other rows stay random. Raises SparsightError.
    """
    path = Path(source).expanduser()
    if path.is_file():
        clip = clip_from_open_clip(_weights(path), shape or OpenClipShape())
        tokenizer = config.text.tokenizer or "clip"
    elif (path / _OPEN_CLIP_CONFIG).is_file():
        clip = _open_clip_folder(path)
        tokenizer = config.text.tokenizer or "clip"
    else:
        clip = _hugging_face(str(source))
        tokenizer = config.text.tokenizer or str(source)
    model = _on_trunks_of(clip, config, tokenizer, pixels_of=str(source))
    with torch.no_grad():
        pairs = (
            (model.image_projection, clip.visual_projection, model.image_head),
            (model.text_projection, clip.text_projection, model.text_head),
        )
        for projection, dense, head in pairs:
            if isinstance(projection, nn.Linear):
                projection.weight.copy_(dense.weight)
            if dense_rows:
                _write_dense_rows(head, projection, dense.weight)
        if config.loss == "infonce":
            model.log_scale.fill_(clip.logit_scale.item())
            model.clip_scale()
    return model


def _on_trunks_of(
    clip: CLIPModel, config: SparseClipConfig, tokenizer: str, pixels_of: str
) -> SparseClip:
    shape: Any = clip.config  # its parts may be dicts to the type checker, but are configs here
    vision, text, joint = shape.vision_config, shape.text_config, shape.projection_dim
    image_config = ImageTowerConfig(
        width=vision.hidden_size,
        layers=vision.num_hidden_layers,
        heads=vision.num_attention_heads,
        mlp_ratio=vision.intermediate_size / vision.hidden_size,
        patch=vision.patch_size,
        size=vision.image_size,
        gelu=vision.hidden_act,
        pool=config.image.pool,
        projection=joint if config.image.projection else 0,
        frozen=config.image.frozen,
        mean=config.image.mean,
        deviation=config.image.deviation,
    )
    text_config = TextTowerConfig(
        width=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        mlp_ratio=text.intermediate_size / text.hidden_size,
        gelu=text.hidden_act,
        max_tokens=text.max_position_embeddings,
        pool=config.text.pool,
        tokenizer=tokenizer,
        projection=joint if config.text.projection else 0,
        frozen=config.text.frozen,
    )
    image_config = with_pixels(image_config, vision, pixels_of)
    image = ImageTrunk(image_config, clip.vision_model)
    words = TextTrunk(text_config, clip.text_model, load_tokenizer(tokenizer))
    return SparseClip.of_trunks(config, image, words)


def _write_dense_rows(head: SparseHead, projection: nn.Module, dense: Tensor) -> None:
    """The head's first rows give the dense embedding (joint,) of the head's own input."""
    joint = dense.shape[0]
    if head.weight.shape[0] < joint:
        raise SparsightError(
            f"a code of {head.weight.shape[0]} features cannot begin with a dense embedding of "
            f"{joint}; raise features or expansion, or leave dense_rows out",
            param="features",
        )
    projected = isinstance(projection, nn.Linear)
    head.weight[:joint] = torch.eye(joint) if projected else dense
    head.bias[:joint] = 0.0


def _hugging_face(name: str) -> CLIPModel:
    try:
        kind = AutoConfig.from_pretrained(name).model_type
        if kind != "clip":
            raise SparsightError(
                f"{name!r} holds a model of type {kind!r}, expected a CLIP with both towers; give "
                "it as image.backbone or text.backbone instead",
                param="source",
            )
        # A file of another model would leave random weights behind with no more than a warning.
        loaded: Any = CLIPModel.from_pretrained(name, dtype="float32", output_loading_info=True)
    except SparsightError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BackboneError(
            f"{name!r} is no folder with a CLIP model or checkpoint file here, and the hub did not "
            f"give it ({first_line(error)}); expected a Hugging Face CLIP, a "
            f"folder with {_OPEN_CLIP_CONFIG}, or an OpenCLIP checkpoint file",
            param="source",
        ) from error
    clip: CLIPModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise SparsightError(
            f"the weights of {name!r} lack {len(missing)} tensors of a CLIP, such as {missing[0]}; "
            "is the file whole?",
            param="source",
        )
    return clip


def _open_clip_folder(folder: Path) -> CLIPModel:
    """An OpenCLIP model as `open_clip.push_to_hf_hub` writes it."""
    found = [folder / name for name in _OPEN_CLIP_WEIGHTS if (folder / name).is_file()]
    if not found:
        raise SparsightError(
            f"{folder} holds {_OPEN_CLIP_CONFIG} but none of {', '.join(_OPEN_CLIP_WEIGHTS)}; copy "
            "the weights there too",
            param="source",
        )
    data = json.loads((folder / _OPEN_CLIP_CONFIG).read_text())
    model = data.get("model_cfg", data)
    vision, text = model["vision_cfg"], model["text_cfg"]
    for key, expected in _UNREAD_TEXT.items():
        if text.get(key, expected) != expected:
            raise SparsightError(
                f"{folder / _OPEN_CLIP_CONFIG}: text_cfg.{key}={text[key]!r} is not read; expected "
                f"{expected!r}, as in OpenAI's CLIP",
                param="source",
            )
    shape = OpenClipShape(
        image_heads=vision.get("width", 768) // vision.get("head_width", 64),
        text_heads=text.get("heads", 8),
        quick_gelu=bool(model.get("quick_gelu", False)),
    )
    return clip_from_open_clip(_weights(found[0]), shape)


def _weights(file: Path) -> dict[str, Tensor]:
    """The state dict in a file of OpenCLIP's: safetensors, weights alone, or a training state."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        # weights_only: a pickle may run any code, and this one needs tensors only.
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, SafetensorError, EOFError) as error:
        raise SparsightError(
            f"{file} cannot be read as a checkpoint ({first_line(error)}); "
            "expected safetensors or what torch.save wrote (no TorchScript archive: load that with "
            "open_clip and save its state_dict)",
            param="source",
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise SparsightError(
            f"{file} holds no state dict of tensors; expected an OpenCLIP checkpoint",
            param="source",
        )
    return state
