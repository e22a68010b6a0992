"""Builds the feature atlas in one pass over reference images and one over a word list.

Nothing grows with images x features or words x features: images come as batches of sparse codes
and leave behind counts and a bounded sample of activations, words are encoded in blocks and leave
behind the best few of each feature. Definitions as in Sparse CLIP, arXiv 2601.20075 (density, dead, modality,
naming).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas, concept_codes
from sparse_encoder.codes import Codes
from sparse_encoder.evaluation.modality import modality_scores

WORD_BLOCK = 256  # words a block; two templates each, 512 short texts a pass
N_NAMES = 5  # the name and four runners-up
ROW_BLOCK = 4096  # features whose samples are sorted at once
RESERVOIR = 1024  # activations kept a feature; p99 is then the 10th largest of a fair sample


class TextEncoder(Protocol):
    """What the build needs of a model: dense non-negative codes of texts (n, features)."""

    def encode_texts(self, texts: list[str]) -> Tensor: ...


@dataclass
class ImageStats:
    """Running counts, sums and a fair bounded sample of the non-zero global activations."""

    n_features: int
    size: int = RESERVOIR
    seed: int = 0
    n_images: int = 0
    count: Tensor = field(init=False)  # (features,) images with the feature active
    total: Tensor = field(init=False)  # (features,) sum of activations, float64
    max: Tensor = field(init=False)  # (features,)
    sample: Tensor = field(init=False)  # (features, size), the first min(count, size) are set

    def __post_init__(self) -> None:
        self.count = torch.zeros(self.n_features, dtype=torch.int64)
        self.total = torch.zeros(self.n_features, dtype=torch.float64)
        self.max = torch.zeros(self.n_features)
        self.sample = torch.zeros(self.n_features, self.size)
        self._random = torch.Generator().manual_seed(self.seed)

    def add(self, codes: Codes) -> None:
        """Takes in the global code of every image in the batch."""
        feature, value = _global_entries(codes)
        order = feature.argsort(stable=True)
        feature, value = feature[order], value[order]
        here = torch.bincount(feature, minlength=self.n_features)
        start = here.cumsum(0) - here
        nth = self.count[feature] + torch.arange(len(feature)) - start[feature]
        # Reservoir sampling (Vitter's algorithm R): the n-th activation of a feature takes slot n
        # while there is room, then a random slot of 0..n, which may lie outside and drop it.
        drawn = torch.rand(len(nth), generator=self._random, dtype=torch.float64) * (nth + 1)
        slot = torch.where(nth < self.size, nth, drawn.long())
        keep = slot < self.size
        place = (feature * self.size + slot)[keep]
        # numpy leaves the last of repeated places, as one by one would; torch leaves any of them.
        self.sample.numpy().reshape(-1)[place.numpy()] = value[keep].numpy()
        self.max.scatter_reduce_(0, feature, value, "amax")
        self.total.index_add_(0, feature, value.double())
        self.count += here
        self.n_images += codes.n_images

    def percentile(self, q: float) -> Tensor:
        """The q-quantile (0..1) of each feature's kept activations, (features,)."""
        kept = self.count.clamp(max=self.size)
        # Sorted in parts: the order of all samples at once is three times as large as they are.
        parts = zip(self.sample.split(ROW_BLOCK), kept.split(ROW_BLOCK), strict=True)
        return torch.cat([_percentile(sample, n, q) for sample, n in parts])


def build_atlas(
    encoder: TextEncoder,
    images: Iterable[Codes],
    words: Sequence[str],
    *,
    fingerprint: str,
    captions: Iterable[str] = (),
    phrases: Iterable[str] = (),
    reservoir: int = RESERVOIR,
) -> FeatureAtlas:
    """The atlas of one model.

    images: batches of reference codes (cells, if held, are not looked at).
    words: candidates for names; with `phrases` they are what a concept may be called.
    captions: texts whose mean activation enters modality; the words where none are given.
    Raises ValueError without images or words.
    """
    batches = iter(images)
    first = next(batches, None)
    if first is None or not words:
        raise ValueError("an atlas needs at least one batch of image codes and one word")
    stats = ImageStats(first.n_features, size=reservoir)
    stats.add(first)
    for codes in batches:
        stats.add(codes)
    word_index, word_score = _top_words(encoder, words)
    text_total, n_texts = _sum_activation(encoder, captions)
    if n_texts == 0:
        text_total, n_texts = _sum_activation(encoder, words)
    text_mean = text_total / n_texts
    modality = modality_scores(stats.total / stats.n_images, text_mean)
    named = [
        [words[i] for i, score in zip(row, scores, strict=True) if score > 0]
        for row, scores in zip(word_index.tolist(), word_score.tolist(), strict=True)
    ]
    known = {" ".join(text.lower().split()) for text in (*words, *phrases)}
    return FeatureAtlas(
        fingerprint=fingerprint,
        names=[row[0] if row else "" for row in named],
        runner_up=[row[1:] for row in named],
        name_score=word_score[:, 0].float().numpy(),
        density=(stats.count / stats.n_images).float().numpy(),
        p50=stats.percentile(0.50).numpy(),
        p90=stats.percentile(0.90).numpy(),
        p99=stats.percentile(0.99).numpy(),
        max=stats.max.numpy(),
        modality=modality.nan_to_num(0.5).float().numpy(),
        vocabulary=frozenset(known - {""}),
    )


def _global_entries(codes: Codes) -> tuple[Tensor, Tensor]:
    """Feature and value of every non-zero entry of the global codes, in image order."""
    row = torch.repeat_interleave(torch.arange(codes.n_rows), codes.offset.diff())
    is_global = row % (1 + codes.n_cells) == 0
    return codes.index[is_global], codes.value[is_global]


def _blocks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    items = iter(texts)
    while block := list(islice(items, size)):
        yield block


def _top_words(encoder: TextEncoder, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Index into `words` and text activation of the best N_NAMES words of each feature.

    Both (features, at most N_NAMES), best first, the earlier word where two are equal.
    """
    index, score, done = torch.empty(0), torch.empty(0), 0
    for block in _blocks(words, WORD_BLOCK):
        codes = concept_codes(block, encoder.encode_texts).float().cpu().T  # (features, block)
        place = torch.arange(done, done + len(block)).expand(len(codes), -1)
        score = torch.cat([score, codes], 1) if done else codes
        index = torch.cat([index, place], 1) if done else place
        order = score.argsort(dim=1, descending=True, stable=True)[:, :N_NAMES]
        score, index = score.gather(1, order), index.gather(1, order)
        done += len(block)
    return index, score


def _sum_activation(encoder: TextEncoder, texts: Iterable[str]) -> tuple[Tensor, int]:
    """Sum of the codes of the texts as they are, (features,) float64, and their number."""
    total, n = torch.zeros((), dtype=torch.float64), 0
    for block in _blocks(texts, WORD_BLOCK):
        total = total + encoder.encode_texts(block).double().sum(0).cpu()
        n += len(block)
    return total, n


def _percentile(values: Tensor, n: Tensor, q: float) -> Tensor:
    """The q-quantile (0..1) of the first n[i] entries of each row, linear; 0 where n is 0.

    values: (rows, width), entries past n[i] are ignored. n: (rows,) int64. Returns (rows,).
    """
    inside = torch.arange(values.shape[1]) < n[:, None]
    ordered = values.masked_fill(~inside, torch.inf).sort(1).values
    at = q * (n - 1).clamp(min=0)  # (rows,) float, as numpy's "linear" rule
    low = at.floor().long()
    high = torch.minimum(low + 1, (n - 1).clamp(min=0))
    below = ordered.gather(1, low[:, None])[:, 0]
    above = ordered.gather(1, high[:, None])[:, 0]
    return torch.where(n > 0, below + (above - below) * (at - low), 0.0)
