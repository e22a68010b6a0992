"""The rows of a training step, drawn by (seed, step) alone, and each process's share of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from sparse_encoder.codes import Codes
from vlm.packing import Branch, Row
from vlm.train_config import VlmRun
from vlm.training_rows import RowMaker

# Tokens a forward pass: more is not faster on two cores; a GPU wants large passes.
GROUP_TOKENS = {"cpu": 1200, "cuda": 12_000}


@dataclass(frozen=True)
class Drawn:
    """What one process trains on in a step: rows, in groups that pass the model together.

    n_answer_tokens: of the whole step, those of the other processes too.
    """

    groups: list[list[Row]]
    n_answer_tokens: int


@dataclass(frozen=True)
class Share:
    """Which of a step's rows one process takes: every `of`-th from `rank` on, in order of length."""

    rank: int = 0
    of: int = 1


WHOLE = Share()


class _Sent(NamedTuple):
    """A row on its way from another process: arrays, which go as bytes, where each tensor takes a file handle."""

    codes: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # index, value, offset
    n_features: int
    grid: tuple[int, int]
    before: tuple[int, ...]
    after: tuple[int, ...]
    branches: tuple[Branch, ...]

    @classmethod
    def of(cls, row: Row) -> "_Sent":
        """With features in as few bytes as hold them: a photograph's code has 200,000 entries."""
        codes = row.codes
        small = torch.int16 if codes.n_features <= 2**15 else torch.int32
        arrays = codes.index.to(small).numpy(), codes.value.numpy(), codes.offset.numpy()
        return cls(arrays, codes.n_features, codes.grid, row.before, row.after, row.branches)

    def row(self) -> Row:
        index, value, offset = (torch.from_numpy(array) for array in self.codes)
        codes = Codes(index, value, offset, self.n_features, self.grid)
        return Row(codes, self.before, self.after, self.branches)


class _Steps(Dataset[tuple[list[list[_Sent]], int]]):
    """The rows of each step."""

    def __init__(self, maker: RowMaker, run: VlmRun, tokens: int, share: Share) -> None:
        self.maker, self.run, self.tokens, self.share = maker, run, tokens, share

    def __getitem__(self, step: int) -> tuple[list[list[_Sent]], int]:
        drawn = draw(self.maker, self.run, step, self.tokens, self.share)
        groups = [[_Sent.of(row) for row in rows] for rows in drawn.groups]
        return groups, drawn.n_answer_tokens


def draws(
    maker: RowMaker, run: VlmRun, steps: range, device: str, share: Share = WHOLE
) -> Iterator[Drawn]:
    """The rows of each step in turn; on a GPU, which would wait for them, made ahead in processes.

    A draw depends on (seed, step) alone, so the processes change nothing but the time.
    """
    tokens = GROUP_TOKENS[device]
    if device == "cpu":
        yield from (draw(maker, run, step, tokens, share) for step in steps)
        return
    loader = DataLoader(
        _Steps(maker, run, tokens, share),
        sampler=steps,
        batch_size=None,
        num_workers=max(1, min(16, len(os.sched_getaffinity(0)) - 1)),
        prefetch_factor=4,
        collate_fn=_as_it_is,
        multiprocessing_context="fork",  # the caches and the encoder are shared, not copied
    )
    for groups, n_answer_tokens in loader:
        yield Drawn([[sent.row() for sent in rows] for rows in groups], n_answer_tokens)


def _as_it_is(rows: Any) -> Any:
    return rows


def draw(
    maker: RowMaker, run: VlmRun, step: int, tokens: int = GROUP_TOKENS["cpu"], share: Share = WHOLE
) -> Drawn:
    """One process's rows of one step, in groups of like length, of about `tokens` tokens each.

    Every process draws all rows and takes its own: a draw goes on where the one before it ended.
    """
    random = np.random.default_rng((run.seed, step))
    rows: list[Row] = []
    if run.text_rows:
        picks = random.integers(len(maker.captions), size=run.text_rows)
        rows += [maker.text_row(int(i), random) for i in picks]
    for kind, n in (("label", run.label_rows), ("caption", run.caption_rows), ("qa", run.qa_rows)):
        pool = maker.by_kind[kind]
        if pool:
            picks = random.integers(len(pool), size=n)
            rows += [maker.image_row(pool[int(i)], random) for i in picks]
    rows.sort(key=lambda row: row.n_text_tokens)
    n_answer_tokens = sum(row.n_answer_tokens for row in rows)
    return Drawn(_grouped(rows[share.rank :: share.of], tokens), n_answer_tokens)


def _grouped(rows: list[Row], tokens: int) -> list[list[Row]]:
    """Rows in order of length cut into groups of about `tokens` tokens: little is padding."""
    groups: list[list[Row]] = []
    for row in rows:
        if not groups or row.n_text_tokens * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(row)
    return groups
