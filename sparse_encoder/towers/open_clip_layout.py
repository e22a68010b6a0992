"""OpenCLIP's checkpoints as transformers' CLIP: the same weights under other names.

Layout of open_clip 3.3, `model.py` and `transformer.py`: ``visual.*`` for the image tower; the text
tower at the root (class CLIP) or under ``text.`` (class CustomTextCLIP). Vision transformers with a
class token and the causal text transformer are read; all else is refused by the name of its keys.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from sparse_encoder.errors import SparsightError

_HEAD_WIDTH = 64  # of every model that open_clip names, unless its config says otherwise
_LAYER = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_LAYER_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
# Buffers that transformers makes itself, and numbers that OpenAI's archives carry.
_IGNORED = {"attn_mask", "input_resolution", "context_length", "vocab_size", "logit_bias"}


@dataclass(frozen=True)
class OpenClipShape:
    """What a state dict does not tell; the defaults are those of open_clip's named models."""

    image_heads: int = 0  # 0: the width / 64
    text_heads: int = 0
    quick_gelu: bool = False  # true for OpenAI's and MetaCLIP's weights


def clip_from_open_clip(state: Mapping[str, Tensor], shape: OpenClipShape) -> CLIPModel:
    """transformers' CLIPModel with the weights of an OpenCLIP state dict, in fp32.

    Raises SparsightError for a layout that is not read (ResNet, timm, CoCa, custom blocks).
    """
    state = {_plain(key): value for key, value in state.items()}
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        if key in _IGNORED:
            continue
        found = _renamed(key, value.float())
        if not found:
            unknown.append(key)
        renamed.update(found)
    if unknown or "visual.conv1.weight" not in state or "token_embedding.weight" not in state:
        raise SparsightError(
            "this is no OpenCLIP checkpoint with a vision transformer and CLIP's text transformer: "
            f"of {len(state)} tensors {len(unknown)} have unknown names"
            + (f", such as {unknown[0]!r}" if unknown else "")
            + "; ResNet, timm and CoCa models cannot be started from",
            param="source",
        )
    model: CLIPModel = CLIPModel(_config(state, shape))
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    if missing or unexpected:
        raise SparsightError(
            f"the OpenCLIP checkpoint lacks {sorted(missing)[:3]} and has {sorted(unexpected)[:3]} "
            "beside what a CLIP of its depth has; is the file whole?",
            param="source",
        )
    model.eval()
    return model


def _plain(key: str) -> str:
    """Without the prefixes of DDP and torch.compile, and of CustomTextCLIP's text tower."""
    return key.removeprefix("module.").removeprefix("_orig_mod.").removeprefix("text.")


def _renamed(key: str, value: Tensor) -> dict[str, Tensor]:
    if key in _NAMES:
        return {_NAMES[key]: value.reshape(()) if key == "logit_scale" else value}
    if key in _TRANSPOSED and value.ndim == 2:  # (width, joint) there, (joint, width) here
        return {_TRANSPOSED[key]: value.T.contiguous()}
    match = _LAYER.fullmatch(key)
    if match is None:
        return {}
    tower = "vision_model" if match[1] else "text_model"
    prefix, name = f"{tower}.encoder.layers.{match[2]}", match[3]
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = name.rpartition("_")[2]
        parts = zip("qkv", value.chunk(3), strict=True)
        return {f"{prefix}.self_attn.{q}_proj.{kind}": part.clone() for q, part in parts}
    part, _, kind = name.rpartition(".")
    return {f"{prefix}.{_LAYER_NAMES[part]}.{kind}": value} if part in _LAYER_NAMES else {}


def _config(state: Mapping[str, Tensor], shape: OpenClipShape) -> CLIPConfig:
    patches, width = state["visual.positional_embedding"].shape
    patch = state["visual.conv1.weight"].shape[-1]
    positions, text_width = state["positional_embedding"].shape
    act = {"hidden_act": "quick_gelu" if shape.quick_gelu else "gelu"}
    return CLIPConfig(
        projection_dim=state["visual.proj"].shape[1],
        vision_config={
            "hidden_size": width,
            "intermediate_size": _mlp_width(state, "visual.transformer"),
            "num_hidden_layers": _depth(state, "visual.transformer"),
            "num_attention_heads": shape.image_heads or max(1, width // _HEAD_WIDTH),
            "patch_size": patch,
            "image_size": round((patches - 1) ** 0.5) * patch,
            **act,
        },
        text_config={
            "vocab_size": state["token_embedding.weight"].shape[0],
            "hidden_size": text_width,
            "intermediate_size": _mlp_width(state, "transformer"),
            "num_hidden_layers": _depth(state, "transformer"),
            "num_attention_heads": shape.text_heads or max(1, text_width // _HEAD_WIDTH),
            "max_position_embeddings": positions,
            # The marks are the last two of CLIP's vocabulary.
            "bos_token_id": state["token_embedding.weight"].shape[0] - 2,
            "eos_token_id": state["token_embedding.weight"].shape[0] - 1,
            "pad_token_id": state["token_embedding.weight"].shape[0] - 1,
            **act,
        },
    )


def _depth(state: Mapping[str, Tensor], tower: str) -> int:
    start = f"{tower}.resblocks."
    return 1 + max(int(k[len(start) :].split(".")[0]) for k in state if k.startswith(start))


def _mlp_width(state: Mapping[str, Tensor], tower: str) -> int:
    return int(state[f"{tower}.resblocks.0.mlp.c_fc.weight"].shape[0])
