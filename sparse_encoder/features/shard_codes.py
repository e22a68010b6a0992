"""One shard of photographs as the build keeps it: codes, embeddings and what is said of each.

The trunk runs once over a shard; what comes after reads this. Kept on disk, so that memory does not
grow with the images.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.contrastive import unit
from sparse_encoder.dataset import Sample
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.evaluation.independent_embedding import IndependentEmbedding
from sparse_encoder.features.state import Arrays, BuildState
from sparse_encoder.trunk_cache import CachedImages, cached_images, cached_shard

BATCH = 256


@dataclass(frozen=True)
class ShardCodes:
    """Row i of each is image i of the shard. Codes are global ones, without cells."""

    codes: Codes
    embedding: NDArray[np.float16]  # (images, width), unit rows
    keys: list[str]
    texts: list[list[str]]  # captions and labels of each image
    only_tests: bool = False  # names are tested on its images, and nothing else is measured on them

    def __len__(self) -> int:
        return len(self.keys)

    def batches(self) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Dense codes and embeddings of at most BATCH images, and which these are."""
        for start in range(0, len(self), BATCH):
            rows = slice(start, min(start + BATCH, len(self)))
            embedding = unit(torch.from_numpy(self.embedding[rows]).float())
            yield self.rows(range(rows.start, rows.stop)).dense(), embedding, rows

    def is_held_out(self, i: int) -> bool:
        """Whether image i tests names, in place of choosing them."""
        return self.only_tests or is_held_out(self.keys[i])

    def rows(self, images: Sequence[int]) -> Codes:
        if not images:
            empty = torch.zeros(0, dtype=torch.int64)
            return Codes(
                empty, torch.zeros(0), torch.zeros(1, dtype=torch.int64), self.codes.n_features
            )
        return Codes.cat([self.codes.image(i) for i in images])


class ShardStore:
    """The shards of one build, in order; those that are there already are not made again."""

    def __init__(
        self,
        state: BuildState,
        encoder: SparseEncoder,
        shards: Sequence[Path],
        embedding: IndependentEmbedding | None = None,
        *,
        only_tests: bool = False,
    ) -> None:
        self.state, self.encoder = state, encoder
        self.shards, self.embedding = shards, embedding
        self.only_tests = only_tests

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, i: int) -> ShardCodes:
        name = f"{'test' if self.only_tests else 'shard'}-{i}"
        kept = self.state.once(name, lambda: self._make(i))
        codes = Codes(
            torch.from_numpy(kept["index"].astype(np.int64)),
            torch.from_numpy(kept["value"]),
            torch.from_numpy(kept["offset"]),
            self.encoder.config.features,
        )
        texts = [text.split("\n") if text else [] for text in kept["texts"].tolist()]
        return ShardCodes(codes, kept["embedding"], kept["keys"].tolist(), texts, self.only_tests)

    def __iter__(self) -> Iterator[ShardCodes]:
        return (self[i] for i in range(len(self)))

    def cells(self, i: int) -> CachedImages | None:
        """The shard's trunk cells; None for a shard without a readable photograph."""
        encoder = self.encoder
        return cached_shard(self.shards[i], encoder.image_trunk, encoder.config.image_trunk)

    @torch.no_grad()
    def _make(self, i: int) -> Arrays:
        images = self.cells(i)
        if images is None:
            return _arrays([], torch.zeros(0, 1), [], self.encoder.config.features)
        pooled = images.pooled()
        blocks = [
            Codes.from_dense(self.encoder.image_head(pooled[start : start + BATCH]))
            for start in range(0, len(pooled), BATCH)
        ]
        judged = pooled
        if self.embedding is not None:
            other = cached_images([self.shards[i]], self.embedding, self.embedding.name)
            judged = other.pooled()
        return _arrays(blocks, unit(judged), images.samples, self.encoder.config.features)


def is_held_out(key: str) -> bool:
    """Half of all images: those whose id has an odd sha256. Names are chosen on the other half."""
    return hashlib.sha256(key.encode()).digest()[-1] % 2 == 1


def draw_of(key: str) -> int:
    """A number that picks images where there are more than are looked at: the smallest first."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def texts_of(sample: Sample) -> list[str]:
    """All that captions and labels say of an image, one line each."""
    said = (*sample.captions, sample.label, sample.detail)
    return [" ".join(text.split()) for text in said if isinstance(text, str) and text.strip()]


def _arrays(
    blocks: list[Codes], embedding: Tensor, samples: Sequence[Sample], n_features: int
) -> Arrays:
    codes = Codes.cat(blocks) if blocks else Codes.from_dense(torch.zeros(0, n_features))
    return {
        "index": codes.index.numpy().astype(np.int32),
        "value": codes.value.numpy(),
        "offset": codes.offset.numpy(),
        "embedding": embedding.half().numpy(),
        "keys": np.array([s.key for s in samples], dtype=np.str_),
        "texts": np.array(["\n".join(texts_of(s)) for s in samples], dtype=np.str_),
    }
