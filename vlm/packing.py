"""Training rows packed so that answers about one code share its prefix.

A row is ``prefix, branch 1, branch 2, ...``. A branch sees the prefix and itself; positions of
every branch start where the prefix ends. Five captions of a photograph then cost one prefix (most
of the tokens), and each branch gets the very loss that it would get alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_encoder.codes import Codes

SOFT = -1  # in token lists: a gap for one soft token
IGNORED = -100


@dataclass(frozen=True)
class Branch:
    """Tokens after the shared prefix; the loss is on `answer` alone."""

    question: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One image or text code and what is asked and answered about it."""

    codes: Codes  # of one image
    before: tuple[int, ...]  # tokens before the soft tokens
    after: tuple[int, ...]  # shared tokens after them
    branches: tuple[Branch, ...]

    @property
    def n_text_tokens(self) -> int:
        """Length without the soft tokens."""
        branches = sum(len(b.question) + len(b.answer) for b in self.branches)
        return len(self.before) + len(self.after) + branches

    @property
    def n_answer_tokens(self) -> int:
        return sum(len(b.answer) for b in self.branches)


class Laid(NamedTuple):
    """One row as lists of equal length, one entry a token."""

    tokens: list[int]  # SOFT for a soft token
    positions: list[int]
    targets: list[int]  # IGNORED where nothing is asked
    branch: list[int]  # 0 = prefix, 1 and up = a branch


@dataclass(frozen=True)
class Batch:
    """Rows as tensors, all (rows, length)."""

    token_ids: Tensor  # 0 where padded or soft
    soft: Tensor  # bool, where soft tokens go, in order
    positions: Tensor
    targets: Tensor  # token to predict AT this place, IGNORED elsewhere
    branch: Tensor  # -1 = padding, 0 = prefix, 1 and up = a branch

    @property
    def mask(self) -> Tensor:
        """float (rows, 1, length, length), 0 = may look, very negative = may not."""
        return _mask(self.branch)

    @property
    def has_branches(self) -> bool:
        """Whether a row has any; without, the mask is the causal one."""
        return bool((self.branch > 0).any())

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        fields = (self.token_ids, self.soft, self.positions, self.targets, self.branch)
        return Batch(*(t.to(device, non_blocking=True) for t in fields))


def pack(rows: Sequence[Row], n_soft: Sequence[int]) -> Batch:
    """n_soft: soft tokens of each row, in step with `rows`."""
    return stack([_lay_out(row, n) for row, n in zip(rows, n_soft, strict=True)])


def stack(laid: Sequence[Laid]) -> Batch:
    """Rows of any lengths, padded at their ends."""
    length = max(len(tokens) for tokens, *_ in laid)
    shape = (len(laid), length)
    token_ids = torch.zeros(shape, dtype=torch.int64)
    positions = torch.zeros(shape, dtype=torch.int64)
    targets = torch.full(shape, IGNORED, dtype=torch.int64)
    branch = torch.full(shape, -1, dtype=torch.int64)  # -1 = padding, 0 = prefix
    for i, (tokens, places, wanted, owner) in enumerate(laid):
        n = len(tokens)
        token_ids[i, :n] = torch.tensor(tokens)
        positions[i, :n] = torch.tensor(places)
        targets[i, :n] = torch.tensor(wanted)
        branch[i, :n] = torch.tensor(owner)
    soft = token_ids == SOFT
    return Batch(token_ids.masked_fill(soft, 0), soft, positions, targets, branch)


def _lay_out(row: Row, n_soft: int) -> Laid:
    return lay_out([*row.before, *[SOFT] * n_soft, *row.after], row.branches)


def lay_out(prefix: Sequence[int], branches: Sequence[Branch]) -> Laid:
    """The row of these branches after their shared prefix, in which SOFT stands for soft tokens."""
    tokens = list(prefix)
    n_prefix = len(tokens)
    places = list(range(n_prefix))
    wanted = [IGNORED] * n_prefix
    owner = [0] * n_prefix
    for number, branch in enumerate(branches, start=1):
        if not branch.question and len(branches) > 1:
            raise ValueError("branches that share a prefix must each repeat its last token")
        text = [*branch.question, *branch.answer]
        # The token at place p predicts the next one, so targets are the answer moved one back.
        goal = [IGNORED] * len(text)
        first = len(branch.question) - 1
        for offset, token in enumerate(branch.answer):
            if first + offset < 0:
                wanted[n_prefix - 1] = token
            else:
                goal[first + offset] = token
        tokens += text
        places += range(n_prefix, n_prefix + len(text))
        wanted += goal
        owner += [number] * len(text)
    return Laid(tokens, places, wanted, owner)


def _mask(branch: Tensor) -> Tensor:
    length = branch.shape[1]
    query, key = branch[:, :, None], branch[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()
    seen = ((key == 0) | (key == query)) & (key >= 0) & causal
    # A padded query looks at itself: a row of the softmax with nothing in it would be NaN.
    itself = torch.eye(length, dtype=torch.bool, device=branch.device)
    seen |= itself & (query < 0)
    return torch.zeros(seen.shape, device=branch.device).masked_fill(~seen, -1e9)[:, None]
