"""A sparse CLIP behind the interface of `SparseEncoder`: photographs to codes with their cells.

The global code is the head of the pooled vector, a cell's code the head of its patch. With dense
heads (activation identity) the codes hold every feature, of either sign: the control that sparse
ones are compared with.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sparse_encoder.codes import Codes
from sparse_encoder.encoder import EncoderConfig
from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead
from sparse_encoder.image import DecodedImage
from sparse_encoder.torch_threads import settle_torch_threads
from sparse_encoder.towers.config import SparseClipConfig, TextTowerConfig
from sparse_encoder.towers.hub import MODEL_TYPE, load
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.start_from import start_from
from sparse_encoder.towers.text import Tokens


class PhotoEncoder(nn.Module):
    """Read-only, so threads may share it. Codes are on the CPU unless asked otherwise."""

    def __init__(self, clip: SparseClip) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.grid = _grid(clip)

    @property
    def config(self) -> EncoderConfig:
        """The same fields as the mini encoder's, for what prints or checks them."""
        config = self.clip.config
        return EncoderConfig(
            features=self.clip.features,
            image_trunk=config.image.backbone,
            text_trunk=config.text.backbone,
            activation=config.activation,
            k=config.k,
        )

    def config_json(self) -> dict[str, object]:
        return asdict(self.config)

    @property
    def image_head(self) -> SparseHead:
        return self.clip.image_head

    @property
    def text_head(self) -> SparseHead:
        return self.clip.text_head

    def preprocess(self, image: Image.Image) -> Tensor:
        """Pixels (3, size, size) of an RGB photograph."""
        return self.clip.image_trunk.preprocess([image])[0]

    @torch.no_grad()
    def codes_of_pixels(self, pixels: Tensor) -> Codes:
        """Codes of preprocessed photographs (images, 3, size, size), on the model's device.

        The trunk takes all at once, the head one by one: cells x features of one photograph are
        57 MB at 55,296 features.
        """
        settle_torch_threads()
        states = self.clip.image_states(pixels.to(self.clip.log_scale.device))
        rows = (
            self.clip.image_head(torch.cat([one[None], cells]).float())
            for one, cells in zip(states.pooled, states.patches, strict=True)
        )
        return Codes.cat([Codes.from_dense(row, self.grid) for row in rows])

    def encode_images(self, images: Sequence[DecodedImage]) -> Codes:
        """One global code and the cells' codes for each image, one by one: see `SparseEncoder`."""
        pixels = [self.preprocess(image.pixels) for image in images]
        return Codes.cat([self.codes_of_pixels(p[None]) for p in pixels])

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Tensor:
        """Dense codes (texts, features) on the CPU; for many texts call it in blocks."""
        settle_torch_threads()
        device = self.clip.log_scale.device
        tokens = Tokens(*(t.to(device) for t in self.clip.text_trunk.tokenize(texts)))
        code: Tensor = self.clip.text_head(self.clip.text_trunk_output(tokens))
        return code.float().cpu()


def load_photo_encoder(folder: Path) -> PhotoEncoder:
    """Of the folder of an exported sparse CLIP, or of a Hugging Face CLIP, which stays dense.

    Raises SparsightError for any other folder.
    """
    kind = _model_type(folder)
    if kind == MODEL_TYPE:
        return PhotoEncoder(load(folder))
    if kind != "clip":
        raise SparsightError(
            f"{folder} holds a model of type {kind!r}; expected the folder of an encoder or a model "
            f"of ours, of an exported sparse CLIP ({MODEL_TYPE!r}), or of a Hugging Face CLIP",
            param="encoder",
        )
    width = int(json.loads((folder / "config.json").read_text()).get("projection_dim", 512))
    text = TextTowerConfig(backbone="source", tokenizer="")  # the source's own
    config = SparseClipConfig(text=text, features=width, activation="identity", bias=0.0)
    # With as many features as the projection is wide, the heads are the projections themselves.
    return PhotoEncoder(start_from(folder, config, dense_rows=True))


def _model_type(folder: Path) -> Any:
    try:
        return json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise SparsightError(
            f"{folder} holds no readable config.json ({error}); expected the folder of an encoder",
            param="encoder",
        ) from error


@torch.no_grad()
def _grid(clip: SparseClip) -> tuple[int, int]:
    """Rows and columns of the patches; found by one empty image, since backbones differ."""
    size, head = clip.image_trunk.size, clip.log_scale.device
    n_patches = clip.image_states(torch.zeros(1, 3, size, size, device=head)).patches.shape[1]
    side = round(n_patches**0.5)
    if side * side != n_patches:
        raise SparsightError(
            f"the image trunk gives {n_patches} patches, which are no square grid; its cells have "
            "no place in the photograph",
            param="encoder",
        )
    return side, side
