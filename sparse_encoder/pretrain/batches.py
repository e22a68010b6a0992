"""Batches of image-text pairs for one rank of a pretraining run."""

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sparse_encoder.pretrain.augment import augmented
from sparse_encoder.pretrain.config import PretrainRun
from sparse_encoder.pretrain.pair_stream import Pair, PairStream, SkipCounts
from sparse_encoder.towers.local_loss import tokenize_negatives
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.text import Tokens


class PairBatch(NamedTuple):
    """Preprocessed pairs."""

    keys: list[str]
    pixels: Tensor  # (batch, 3, size, size)
    tokens: Tokens  # ids and mask, (batch, tokens)
    negatives: Tokens | None = None  # ids and mask, (batch, 2, tokens); see `tokenize_negatives`

    def micro_batches(self, size: int) -> tuple[list[Tensor], list[Tokens]]:
        """Images and texts in parts of `size`, the last may be smaller."""
        parts = zip(self.tokens.ids.split(size), self.tokens.mask.split(size), strict=True)
        return list(self.pixels.split(size)), [Tokens(*part) for part in parts]

    def to(self, device: torch.device) -> "PairBatch":
        """The same batch on a device."""
        tokens, negatives = (
            None if some is None else Tokens(*(t.to(device) for t in some))
            for some in (self.tokens, self.negatives)
        )
        assert tokens is not None
        return PairBatch(self.keys, self.pixels.to(device), tokens, negatives)


@dataclass(frozen=True)
class _Prepare:
    """A pair to (key, pixels, text); runs in loading processes, so photographs shrink there."""

    clip: SparseClip
    crop: float = 1.0
    flip: bool = False

    def __call__(self, pair: Pair) -> tuple[str, Tensor, str]:
        trunk = self.clip.image_trunk
        image = augmented(pair.image, trunk.size, self.crop, self.flip, random.Random(pair.seed))
        return pair.key, trunk.preprocess([image])[0], pair.text


@dataclass(frozen=True)
class _Collate:
    clip: SparseClip
    local: bool = False  # hard negatives are made too

    def __call__(self, rows: Sequence[tuple[str, Tensor, str]]) -> PairBatch:
        keys, pixels, texts = zip(*rows, strict=True)
        trunk = self.clip.text_trunk
        negatives = None
        if self.local:
            # Of the batch's own keys: it needs no count of steps, and a run that goes on has the same.
            seed = zlib.crc32("\n".join(keys).encode(errors="replace"))
            negatives = tokenize_negatives(trunk, texts, seed)
        return PairBatch(list(keys), torch.stack(pixels), trunk.tokenize(texts), negatives)


def pair_batches(
    clip: SparseClip,
    run: PretrainRun,
    urls: Sequence[str],
    *,
    start: int,
    rank: int,
    n_ranks: int,
    skipped: SkipCounts,
) -> Iterator[PairBatch]:
    """Endless batches of one rank, in an order that seed, start, rank and run.workers fix."""
    stream = PairStream(
        urls,
        _Prepare(clip, run.crop, run.flip),
        seed=run.seed,
        start=start,
        rank=rank,
        buffer=run.buffer,
        skipped=skipped,
    )
    loader: DataLoader[PairBatch] = DataLoader(
        stream,  # type: ignore[arg-type]  # rows in, batches out
        batch_size=run.local_batch(n_ranks),
        collate_fn=_Collate(clip, bool(run.local_weight)),
        num_workers=run.workers,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)
