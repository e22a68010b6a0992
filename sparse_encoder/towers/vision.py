"""Image trunks: any vision backbone of transformers, and the mini trunk, with one interface.

`ImageTrunk` and `MiniImageTrunk` both give a pooled vector and a vector for each patch.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, CLIPVisionModel, PretrainedConfig
from transformers.models.auto.image_processing_auto import get_image_processor_config

from sparse_encoder.errors import SparsightError
from sparse_encoder.image_trunk import EfficientNetLite
from sparse_encoder.mini_parts import IMAGE_TRUNK_PART
from sparse_encoder.parts import ensure_part
from sparse_encoder.towers.backbone import build_backbone, check_reads, shape_to_json
from sparse_encoder.towers.config import IMAGE_FAMILIES, MINI_IMAGE_TRUNK, ImageTowerConfig

_MODEL_TYPES = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
_CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET_PIXELS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF_PIXELS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Mean and deviation of the pixels that each family was trained on, as its processor has them.
_PIXELS = {
    "clip_vision_model": _CLIP_PIXELS,
    "siglip_vision_model": _HALF_PIXELS,
    "siglip2_vision_model": _HALF_PIXELS,
    "dinov2": _IMAGENET_PIXELS,
    "dinov2_with_registers": _IMAGENET_PIXELS,
    "vit": _HALF_PIXELS,
}


class ImageStates(NamedTuple):
    """Last hidden states of images, after the trunk's last norm."""

    pooled: Tensor  # (batch, width)
    patches: Tensor  # (batch, patches, width), in reading order


class ImageTrunk(nn.Module):
    """A vision backbone of transformers; trains unless its config says frozen."""

    def __init__(self, config: ImageTowerConfig, model: Any) -> None:
        """config: with the pixels' mean and deviation filled in, see `build_image_trunk`.

        model: a vision model of transformers.
        """
        super().__init__()
        check_reads(model, "pixel_values", "image")
        self.config = config
        self.model = model
        # A dense layer with tanh, trained on other tasks or not at all: the class token is taken
        # instead. Left in, it would be a parameter without gradient, which DDP refuses.
        if hasattr(getattr(model, "pooler", None), "dense"):
            self.model.pooler = None
        if config.pool == "mean" and getattr(model, "use_head", False):  # SigLIP's pooling head
            self.model.head, self.model.use_head = None, False
            self.model.config.vision_use_head = False
        self.freeze()

    def freeze(self) -> None:
        """Takes the gradient from parameters that do not train: all, where the config says so."""
        for name, parameter in self.named_parameters():
            if self.config.frozen or name.endswith("mask_token"):  # of masked pretraining alone
                parameter.requires_grad_(False)
        if self.config.frozen:
            self.eval()

    @property
    def width(self) -> int:
        shape = self.model.config
        return int(shape.hidden_size if hasattr(shape, "hidden_size") else shape.hidden_sizes[-1])

    @property
    def size(self) -> int:
        """Side of the images that the trunk takes, pixels."""
        return self.config.size

    def shape_json(self) -> dict[str, Any]:
        """What `build_image_trunk` makes an equal trunk from, but for the weights."""
        return shape_to_json(self.model.config)

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of any size to (batch, 3, size, size): shortest side resized, centre crop."""
        pixels = np.stack([_centre(image.convert("RGB"), self.size) for image in images])
        mean, deviation = np.asarray([self.config.mean, self.config.deviation], np.float32)
        scaled = (pixels.astype(np.float32) / 255 - mean) / deviation
        return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()

    def forward(self, pixels: Tensor) -> ImageStates:
        """States of (batch, 3, size, size)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            output = self.model(pixel_values=pixels.to(self.model.dtype))
            states: Tensor = output.last_hidden_state
            patches = self._patches(states, pixels)
            if self.config.pool == "mean":
                return ImageStates(patches.mean(1), patches)
            pooled = getattr(output, "pooler_output", None)
            return ImageStates(states[:, 0] if pooled is None else pooled.flatten(1), patches)

    def train(self, mode: bool = True) -> "ImageTrunk":
        """A frozen trunk stays in eval mode: no dropout."""
        return super().train(mode and not self.config.frozen)

    def _patches(self, states: Tensor, pixels: Tensor) -> Tensor:
        if states.ndim == 4:  # a convolution's map, (batch, width, rows, columns)
            return states.flatten(2).transpose(1, 2)
        if isinstance(self.model, CLIPVisionModel):
            states = self.model.post_layernorm(states)  # transformers norms the class token alone
        patch = getattr(self.model.config, "patch_size", 0)
        if not isinstance(patch, int) or not patch:
            return states
        # Class and register tokens come first, so the patches are the last ones. A hierarchical
        # trunk such as Swin has merged patches and no such tokens, and all of its states are taken.
        n_patches = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
        return states[:, -n_patches:]


class MiniImageTrunk(nn.Module):
    """The frozen trunk of `sparsight-mini` behind the same interface."""

    width = EfficientNetLite.width
    size = EfficientNetLite.size

    def __init__(self, config: ImageTowerConfig, model: EfficientNetLite) -> None:
        super().__init__()
        self.config = config
        self.model = model

    def freeze(self) -> None:
        """Takes the gradient from all parameters."""
        self.requires_grad_(False)

    def shape_json(self) -> dict[str, Any]:
        return {"model_type": MINI_IMAGE_TRUNK}

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of any size to (batch, 3, 260, 260), squashed."""
        return self.model.preprocess([image.convert("RGB") for image in images])

    def forward(self, pixels: Tensor) -> ImageStates:
        """States of (batch, 3, 260, 260); pooled is the mean of the 81 cells."""
        cells = self.model(pixels.to(self.model.net._conv_head.weight.dtype))
        cells = cells.clone()  # out of inference mode, so that a head's backward may keep it
        return ImageStates(cells.mean(1), cells)

    def train(self, mode: bool = True) -> "MiniImageTrunk":
        """Stays in eval mode."""
        return super().train(False)


def build_image_trunk(
    config: ImageTowerConfig, shape: dict[str, Any] | None = None
) -> ImageTrunk | MiniImageTrunk:
    """The trunk that `config` asks for; its own config has size and pixels filled in.

    shape: what a saved model's `shape_json` gave. Then nothing is fetched and the weights are left
    to be loaded. Raises BackboneError where a named backbone cannot be had.
    """
    if config.backbone == MINI_IMAGE_TRUNK:
        if shape is None:
            return MiniImageTrunk(config, EfficientNetLite.load(ensure_part(IMAGE_TRUNK_PART)))
        mini = EfficientNetLite()
        mini._fuse()  # as `load` leaves it, so that the saved weights fit
        return MiniImageTrunk(config, mini)
    is_family = shape is None and config.backbone in IMAGE_FAMILIES
    model = build_backbone(
        config.backbone,
        "image",
        saved=shape,
        family=_family_shape(config) if is_family else None,
        with_weights=config.pretrained,
    )
    return ImageTrunk(with_pixels(config, model.config, config.backbone), model)


def _family_shape(config: ImageTowerConfig) -> PretrainedConfig:
    mlp: dict[str, Any] = {"intermediate_size": round(config.width * config.mlp_ratio)}
    if config.backbone == "dinov2":
        mlp = {"mlp_ratio": round(config.mlp_ratio)}
    shape: PretrainedConfig = AutoConfig.for_model(
        _MODEL_TYPES.get(config.backbone, config.backbone),
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        patch_size=config.patch,
        image_size=config.size,
        hidden_act=config.gelu,
        **mlp,
    )
    return shape


def with_pixels(config: ImageTowerConfig, shape: PretrainedConfig, source: str) -> ImageTowerConfig:
    """`config` with the backbone's image size, and its pixels' mean and deviation where empty.

    source: the name or folder whose ``preprocessor_config.json`` is asked first, or a family.
    """
    size = getattr(shape, "image_size", config.size)
    config = replace(config, size=size if isinstance(size, int) else int(size[0]))
    if config.mean:
        return config
    found = {} if source in IMAGE_FAMILIES else _processor(source)
    if {"image_mean", "image_std"} <= found.keys():
        pixels = (tuple(found["image_mean"]), tuple(found["image_std"]))
    elif shape.model_type in _PIXELS:
        pixels = _PIXELS[shape.model_type]
    else:
        raise SparsightError(
            f"the image backbone {source!r} has no preprocessor_config.json that says how its "
            "pixels are scaled; give image.mean and image.deviation, three numbers each",
            param="image.mean",
        )
    return replace(config, mean=pixels[0], deviation=pixels[1])


def _processor(source: str) -> dict[str, Any]:
    """What ``preprocessor_config.json`` says; empty where there is none."""
    if Path(source).is_file():  # a checkpoint file has none beside it
        return {}
    return dict(get_image_processor_config(source))


def _centre(image: Image.Image, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(side, side, 3): the shortest side becomes `side`, the rest is cut (OpenAI's CLIP)."""
    width, height = image.size
    scale = side / min(width, height)
    wide, high = max(side, int(width * scale)), max(side, int(height * scale))
    left, top = round((wide - side) / 2), round((high - side) / 2)
    resized = image.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + side, top + side)))
