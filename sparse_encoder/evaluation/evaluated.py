"""What evaluation asks of an encoder, and the two kinds of encoder that answer.

Trunk and head are asked apart: trunk vectors are kept (inputs x width), codes are made in batches.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from sparse_encoder.any_encoder import load_encoder
from sparse_encoder.dataset import Sample, read_samples
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import ImageError, decode_image
from sparse_encoder.model_folder import find_model
from sparse_encoder.towers import SparseClip, Tokens
from sparse_encoder.towers import load as load_sparse_clip
from sparse_encoder.trunk_cache import cached_images
from sparse_encoder.wheel import Progress

log = logging.getLogger(__name__)
IMAGE_BATCH = 32
TEXT_BATCH = 256


class Evaluated(Protocol):
    """An encoder under test. Vectors are what its heads take: (inputs, width), float32, CPU."""

    features: int

    def describe(self) -> dict[str, Any]:
        """What a report says of the encoder."""
        ...

    def read_images(self, shards: Sequence[Path]) -> tuple[list[Sample], Tensor]:
        """Every sample with a readable photograph, without its bytes, and their vectors."""
        ...

    def image_vectors(self, images: Sequence[Image.Image]) -> Tensor: ...

    def text_vectors(self, texts: Sequence[str]) -> Tensor: ...

    def image_codes(self, vectors: Tensor) -> Tensor:
        """Global codes (inputs, features), un-normalised."""
        ...

    def text_codes(self, vectors: Tensor) -> Tensor:
        """Codes (inputs, features), un-normalised."""
        ...


class FrozenTrunkEncoder:
    """A `SparseEncoder`, whose trunk outputs are cached on disk."""

    def __init__(self, encoder: SparseEncoder) -> None:
        self.encoder = encoder
        self.features = encoder.config.features

    def describe(self) -> dict[str, Any]:
        return {**self.encoder.config_json(), "activation": self.encoder.image_head.activation}

    def read_images(self, shards: Sequence[Path]) -> tuple[list[Sample], Tensor]:
        images = cached_images(shards, self.encoder.image_trunk, self.encoder.config.image_trunk)
        return images.samples, images.pooled()

    @torch.no_grad()
    def image_vectors(self, images: Sequence[Image.Image]) -> Tensor:
        trunk = self.encoder.image_trunk
        vectors: Tensor = trunk(trunk.preprocess(images)).mean(1).float()
        return vectors

    @torch.no_grad()
    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        vectors: Tensor = self.encoder.text_trunk(list(texts)).float()
        return vectors

    @torch.no_grad()
    def image_codes(self, vectors: Tensor) -> Tensor:
        code: Tensor = self.encoder.image_head(vectors)
        return code

    @torch.no_grad()
    def text_codes(self, vectors: Tensor) -> Tensor:
        code: Tensor = self.encoder.text_head(vectors)
        return code


class SparseClipEncoder:
    """A `SparseClip` on any towers. Nothing is cached: such trunks train, so outputs go stale."""

    def __init__(self, model: SparseClip) -> None:
        self.model = model.eval()
        self.features = model.features

    def describe(self) -> dict[str, Any]:
        config = self.model.config
        return {
            "features": self.features,
            "image_trunk": config.image.backbone,
            "text_trunk": config.text.backbone,
            "activation": config.activation,
        }

    def read_images(self, shards: Sequence[Path]) -> tuple[list[Sample], Tensor]:
        samples: list[Sample] = []
        images: list[Image.Image] = []
        vectors: list[Tensor] = []
        bar = tqdm(read_samples(shards), desc="photographs", unit="image", delay=1, leave=False)
        for sample in bar:
            try:
                images.append(decode_image(sample.image).pixels)
            except ImageError as error:
                log.warning("photograph %s is left out: %s", sample.key, error)
                continue
            samples.append(replace(sample, image=b""))
            if len(images) == IMAGE_BATCH:
                vectors.append(self.image_vectors(images))
                images = []
        if images:
            vectors.append(self.image_vectors(images))
        return samples, torch.cat(vectors) if vectors else torch.zeros(0, 1)

    @torch.inference_mode()
    def image_vectors(self, images: Sequence[Image.Image]) -> Tensor:
        pixels = self.model.image_trunk.preprocess(images).to(self._device)
        return self.model.image_trunk_output(pixels).float().cpu()

    @torch.inference_mode()
    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        parts = []
        for start in range(0, len(texts), TEXT_BATCH):
            tokens = self.model.text_trunk.tokenize(list(texts[start : start + TEXT_BATCH]))
            on_device = Tokens(*(t.to(self._device) for t in tokens))
            parts.append(self.model.text_trunk_output(on_device).float().cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def image_codes(self, vectors: Tensor) -> Tensor:
        code: Tensor = self.model.image_head(vectors.to(self._device))
        return code

    @torch.no_grad()
    def text_codes(self, vectors: Tensor) -> Tensor:
        code: Tensor = self.model.text_head(vectors.to(self._device))
        return code

    @property
    def _device(self) -> torch.device:
        return self.model.log_scale.device


def load_evaluated(model: str | Path, progress: Progress | None = None) -> Evaluated:
    """The encoder of `model`: a name, a model's or an encoder's folder, an exported sparse CLIP."""
    folder = find_model(model)
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise SparsightError(
            f"cannot read {folder / 'config.json'}: {error}", param="model"
        ) from error
    if "encoder" not in config:
        return SparseClipEncoder(load_sparse_clip(folder))
    encoder = load_encoder(folder, progress)
    if isinstance(encoder, SparseEncoder):
        return FrozenTrunkEncoder(encoder)
    return SparseClipEncoder(encoder.clip)
