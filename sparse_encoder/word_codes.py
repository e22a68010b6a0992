"""Unit codes of a word list, sparse, a block at a time; made once for a model and kept on disk.

The text tower takes 4 ms a word on one core and gives 350 active features of 8,192, so a list of
20,000 words is read for a minute and a half once, and from 40 MB after that. A list of one block is not kept.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.atlas import concept_codes
from sparse_encoder.codes import Codes
from sparse_encoder.contrastive import unit
from sparse_encoder.features.state import Arrays, BuildState
from sparse_encoder.parts import cache_dir

BLOCK = 512  # words; two templates each, so 1,024 dense codes at once

EncodeTexts = Callable[[list[str]], Tensor]
Told = Callable[[str, float | None], object]  # what is done, and the share of it, [0, 1]


@dataclass(frozen=True)
class WordCodes:
    """The list, and its codes by blocks. Read-only."""

    words: Sequence[str]
    n_features: int
    block: Callable[[int], Arrays]  # by its first word

    def blocks(self) -> Iterator[tuple[int, Codes]]:
        """First word and unit codes of each block, in order; a word without a code is all zeros."""
        for first in range(0, len(self.words), BLOCK):
            kept = self.block(first)
            yield (
                first,
                Codes(
                    torch.from_numpy(kept["index"].astype(np.int64)),
                    torch.from_numpy(kept["value"]),
                    torch.from_numpy(kept["offset"]),
                    self.n_features,
                ),
            )


def word_codes(
    words: Sequence[str],
    encode_texts: EncodeTexts,
    n_features: int,
    fingerprint: str,
    told: Told = lambda *_: None,
) -> Generator[str, None, WordCodes]:
    """A step a block: yields "words" after each that had to be made, returns the codes.

    encode_texts: texts to codes (n, features), of the model of that fingerprint. A run that was
    stopped goes on. Raises SparsightError where the cache cannot be written.
    """

    def make(first: int) -> Arrays:
        return _arrays(words[first : first + BLOCK], encode_texts)

    if len(words) <= BLOCK:
        only = make(0) if words else None
        return WordCodes(words, n_features, lambda _: only or {})
    listed = hashlib.sha256("\n".join([fingerprint, *words]).encode()).hexdigest()
    state = BuildState(cache_dir() / "word_codes", listed)

    def block(first: int) -> Arrays:
        return state.once(f"words-{first}", lambda: make(first))

    # Which are there is one look, not a read of all of them.
    there = {path.name for path in state.folder.iterdir()}
    for first in range(0, len(words), BLOCK):
        if f"words-{first}.npz" not in there:
            told("reading the word list, once for this model", first / len(words))
            block(first)
            yield "words"
    return WordCodes(words, n_features, block)


@torch.inference_mode()
def _arrays(words: Sequence[str], encode_texts: EncodeTexts) -> Arrays:
    codes = Codes.from_dense(unit(concept_codes(words, encode_texts).float().cpu()))
    small = codes.n_features <= np.iinfo(np.uint16).max + 1
    return {
        "index": codes.index.numpy().astype(np.uint16 if small else np.int32),
        "value": codes.value.numpy(),
        "offset": codes.offset.numpy(),
    }
