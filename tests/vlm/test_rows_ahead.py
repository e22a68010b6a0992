"""Rows of a captioner's run: made ahead for a GPU, or shared out, they are those of the plain loop."""

from typing import Any

import numpy as np
import pytest
import torch

from sparse_encoder.codes import Codes
from vlm.packing import Branch, Row
from vlm.step_rows import GROUP_TOKENS, WHOLE, Drawn, Share, draw, draws
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


def flat(drawn: Drawn) -> list[Any]:
    return [drawn.n_answer_tokens] + [
        (r.before, r.after, r.branches, r.codes.grid, r.codes.index.long().tolist())
        + (r.codes.value.tolist(), r.codes.offset.tolist())
        for rows in drawn.groups
        for r in rows
    ]


@pytest.mark.parametrize(("first", "share"), [(0, WHOLE), (2, WHOLE), (2, Share(1, 3))])
def test_rows_made_ahead_are_those_of_the_plain_loop_in_the_same_order(
    first: int, share: Share
) -> None:
    maker: Any = Maker()
    run = vlm_run("tiny", {"steps": 5})
    steps = range(first, run.steps)
    ahead = [flat(drawn) for drawn in draws(maker, run, steps, "cuda", share)]
    plain = [flat(draw(maker, run, step, GROUP_TOKENS["cuda"], share)) for step in steps]
    assert ahead == plain


@pytest.mark.parametrize("of", [1, 2, 3, 20])
def test_processes_share_the_rows_of_a_step_and_know_how_many_answers_all_have(of: int) -> None:
    maker: Any = Maker()
    run = vlm_run("tiny", {})
    whole = flat(draw(maker, run, 3))
    shares = [flat(draw(maker, run, 3, share=Share(rank, of))) for rank in range(of)]
    assert {n_tokens for n_tokens, *_ in shares} == {whole[0]}
    rows = sorted((row for _, *rows in shares for row in rows), key=str)
    assert rows == sorted(whole[1:], key=str)
    assert max(len(s) for s in shares) - min(len(s) for s in shares) <= 1
