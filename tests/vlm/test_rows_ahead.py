"""Rows of a captioner's run, made ahead in other processes for a GPU: the very rows of the plain loop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparse_encoder.codes import Codes
from vlm.packing import Branch, Row
from vlm.train import GROUP_TOKENS, _draw, _draws
from vlm.train_config import vlm_run


class Maker:
    """Rows that depend on the generator alone, as those of RowMaker do."""

    captions = ("a", "b", "c")
    by_kind: dict[str, list[int]] = {"label": [0, 1], "caption": [2], "qa": []}

    def text_row(self, i: int, random: np.random.Generator) -> Row:
        return self.row(i, random, (0, 0))

    def image_row(self, i: int, random: np.random.Generator) -> Row:
        return self.row(i, random, (2, 2))

    def row(self, i: int, random: np.random.Generator, grid: tuple[int, int]) -> Row:
        dense = torch.from_numpy(random.random((1 + grid[0] * grid[1], 64), dtype=np.float32))
        answer = tuple(int(t) for t in random.integers(9, size=1 + i))
        return Row(Codes.from_dense(dense, grid), (1,), (), (Branch((2,), answer),))


def flat(groups: list[list[Row]]) -> list[Any]:
    return [
        (r.before, r.after, r.branches, r.codes.grid, r.codes.index.long().tolist())
        + (r.codes.value.tolist(), r.codes.offset.tolist())
        for rows in groups
        for r in rows
    ]


@pytest.mark.parametrize("first", [0, 2])
def test_rows_made_ahead_are_those_of_the_plain_loop_in_the_same_order(
    first: int, tmp_path: Path
) -> None:
    maker: Any = Maker()
    run = vlm_run("tiny", {"steps": 5})
    steps = range(first, run.steps)
    ahead = [flat(groups) for groups in _draws(maker, run, steps, "cuda")]
    plain = [flat(_draw(maker, run, step, GROUP_TOKENS["cuda"])) for step in steps]
    assert ahead == plain
