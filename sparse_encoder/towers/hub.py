"""A sparse CLIP model in the Hugging Face layout: one folder, loaded by `AutoModel`.

The folder holds ``config.json`` (our config and the shapes of both backbones, so that nothing is
fetched again), ``model.safetensors``, the tokenizer, and ``preprocessor_config.json``.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from sparse_encoder.errors import SparsightError
from sparse_encoder.towers.backbone import first_line
from sparse_encoder.towers.config import SparseClipConfig
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.text import Tokens
from sparse_encoder.towers.tokenizer import load_tokenizer
from sparse_encoder.towers.vision import ImageTrunk

MODEL_TYPE = "sparse_clip"


class SparseClipHubConfig(PretrainedConfig):
    """``config.json`` of an exported model."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        sparse_clip: dict[str, Any] | None = None,
        image_shape: dict[str, Any] | None = None,
        text_shape: dict[str, Any] | None = None,
        n_tokens: int = 0,
        **kwargs: Any,
    ) -> None:
        """sparse_clip: `SparseClipConfig.to_json`; the shapes: the trunks' `shape_json`.

        n_tokens: of the tokenizer, by which one that lost its file is told.
        """
        super().__init__(**kwargs)
        self.sparse_clip = sparse_clip or {}
        self.image_shape = image_shape or {}
        self.text_shape = text_shape or {}
        self.n_tokens = n_tokens


@dataclass
class SparseClipOutput(ModelOutput):
    """What `SparseClipModel` gives; None where no such input was given."""

    image_code: Tensor | None = None  # (batch, features), un-normalised, non-negative
    text_code: Tensor | None = None  # (batch, features)


class SparseClipModel(PreTrainedModel):
    """The class behind ``AutoModel.from_pretrained(folder)``; `clip` is the model itself.

    To train on, take `load`, which freezes the parameters that the config says are frozen.
    """

    config_class = SparseClipHubConfig
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: SparseClipHubConfig, clip: SparseClip | None = None) -> None:
        """clip: a model to wrap; without it one is made of `config`, its weights to be loaded."""
        super().__init__(config)
        if clip is None:
            clip = SparseClip.build(
                SparseClipConfig.from_json(config.sparse_clip),
                config.image_shape,
                config.text_shape,
                _tokenizer(config),
            )
        self.clip = clip
        self.post_init()  # type: ignore[no-untyped-call]

    def init_weights(self) -> None:
        """Leaves the weights as they are: they were made by the parts, or trained."""

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> SparseClipOutput:
        """Codes of preprocessed images, of tokenized texts, or of both."""
        tokens = None
        if input_ids is not None:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            tokens = Tokens(input_ids, mask)
        codes = self.clip(pixel_values, tokens)
        return SparseClipOutput(image_code=codes.image, text_code=codes.text)


def export(model: SparseClip, folder: Path) -> None:
    """Writes `model` to `folder` in the Hugging Face layout, in the weights' own dtype."""
    config = SparseClipHubConfig(
        sparse_clip=model.config.to_json(),
        image_shape=model.image_trunk.shape_json(),
        text_shape=model.text_trunk.shape_json(),
        n_tokens=len(model.text_trunk.tokenizer),
    )
    SparseClipModel(config, model).save_pretrained(folder)
    model.text_trunk.tokenizer.save_pretrained(folder)
    if isinstance(model.image_trunk, ImageTrunk):  # no processor of transformers squashes so
        processor = json.dumps(_processor(model.image_trunk), indent=1)
        (folder / "preprocessor_config.json").write_text(processor + "\n")


def load(folder: Path) -> SparseClip:
    """The model that `export` wrote, in eval mode; raises SparsightError for any other folder."""
    try:
        data = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise SparsightError(
            f"{folder} holds no readable config.json ({error}); expected a folder that "
            "sparse_encoder.towers.export wrote",
            param="model",
            code="model_not_found",
        ) from error
    if data.get("model_type") != MODEL_TYPE:
        raise SparsightError(
            f"{folder} holds a model of type {data.get('model_type')!r}, expected {MODEL_TYPE!r}; "
            "sparse_encoder.towers.start_from makes one of a dense CLIP",
            param="model",
        )
    try:
        loaded: Any = SparseClipModel.from_pretrained(
            folder.resolve(), output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (OSError, SafetensorError) as error:  # a file that is missing or cut off
        raise SparsightError(
            f"the model in {folder} cannot be read ({first_line(error)}); copy or export it again",
            param="model",
        ) from error
    model, report = loaded
    wrong = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    if wrong:
        raise SparsightError(
            f"the weights in {folder} lack or misshape {len(wrong)} tensors that its config.json "
            f"asks for, such as {min(wrong)}; export the model again",
            param="model",
        )
    clip: SparseClip = model.clip.eval()
    clip.image_trunk.freeze()  # loading puts new parameters in place
    clip.text_trunk.freeze()
    return clip


def register() -> None:
    """Tells transformers' Auto classes about ``sparse_clip``; importing the package does it."""
    AutoConfig.register(MODEL_TYPE, SparseClipHubConfig, exist_ok=True)
    AutoModel.register(SparseClipHubConfig, SparseClipModel, exist_ok=True)


def _tokenizer(config: SparseClipHubConfig) -> Any:
    """The tokenizer beside the model; transformers makes an empty one where its file is missing."""
    tokenizer = load_tokenizer(str(config.name_or_path))
    if len(tokenizer) != config.n_tokens:
        raise SparsightError(
            f"the tokenizer in {config.name_or_path} has {len(tokenizer)} tokens, the model was "
            f"saved with one of {config.n_tokens}; copy tokenizer.json too, or export it again",
            param="model",
        )
    return tokenizer


def _processor(trunk: ImageTrunk) -> dict[str, Any]:
    """`ImageTrunk.preprocess` in the words of transformers' CLIP image processor."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": trunk.size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": trunk.size, "width": trunk.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(trunk.config.mean),
        "image_std": list(trunk.config.deviation),
    }
