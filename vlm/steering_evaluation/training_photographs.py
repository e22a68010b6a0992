"""What the dense baselines learn from: trunk vectors of the training photographs, and what they show.

A photograph shows a concept where its label, or a caption that a person wrote, mentions it. The
photographs are those that the encoder itself was trained on; none is judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.dataset import Sample, find_shards
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.trunk_cache import CachedImages, cached_images
from vlm.mention import Lexicon, mentions

SHARDS = ("coco/train-*.tar", "flickr8k/train-*.tar", "concepts/train-*.tar")
MIN_EXAMPLES = 4  # photographs of a concept; of fewer nothing is learned


@dataclass(frozen=True)
class TrainingPhotographs:
    """Cached trunk outputs, their pooled vectors (photographs, width), and who shows what."""

    images: CachedImages
    pooled: Tensor
    showing: Mapping[str, Tensor]  # concept -> photographs, (n,) int64, MIN_EXAMPLES or more

    @classmethod
    def load(
        cls, data: Path, encoder: SparseEncoder, lexicons: Mapping[str, Lexicon]
    ) -> "TrainingPhotographs | None":
        """None where `data` has no training shards. Trunk outputs come from the cache once there."""
        try:
            shards = find_shards(data, *SHARDS)
        except SparsightError:
            return None
        images = cached_images(shards, encoder.image_trunk, encoder.config.image_trunk)
        return cls(images, images.pooled(), shown(images.samples, lexicons))

    def vectors(self, row: Tensor) -> Tensor:
        """Trunk vectors (batch, width) of rows: of each photograph its mean, then its cells."""
        per_image = 1 + self.images.blocks[0].shape[1]
        return torch.stack([self._vector(*divmod(i, per_image)) for i in row.tolist()])

    def _vector(self, image: int, place: int) -> Tensor:
        """One vector (width,): the mean for place 0, else a cell; only this row is read."""
        if place == 0:
            return self.pooled[image]
        block = int(np.searchsorted(self.images.starts, image, side="right")) - 1
        cells = self.images.blocks[block][image - self.images.starts[block]]
        return torch.from_numpy(np.array(cells[place - 1])).float()

    @property
    def n_vectors(self) -> int:
        return len(self.images) * (1 + int(self.images.blocks[0].shape[1]))


def shown(samples: Sequence[Sample], lexicons: Mapping[str, Lexicon]) -> dict[str, Tensor]:
    """Photographs that show each concept, where there are MIN_EXAMPLES of them."""
    texts = [
        ". ".join(
            [
                *([sample.label] if sample.label else []),
                *sample.captions * (not sample.captions_by_rule),
            ]
        )
        for sample in samples
    ]
    by_text: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        by_text.setdefault(text, []).append(i)  # a label stands for many photographs
    found = {}
    for concept, lexicon in lexicons.items():
        rows = [i for text, where in by_text.items() if mentions(lexicon, text) for i in where]
        if len(rows) >= MIN_EXAMPLES:
            found[concept] = torch.tensor(sorted(rows))
    return found
