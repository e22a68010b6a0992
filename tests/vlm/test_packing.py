"""Packed rows give each answer the very loss that it would get alone."""

import pytest
import torch

from sparse_encoder.codes import Codes
from vlm.packing import IGNORED, Branch, Row, pack
from vlm.train import Captioner
from vlm.train_config import PRESETS


def _row(before: int, after: int, branches: tuple[Branch, ...]) -> Row:
    codes = Codes.from_dense(torch.rand(10, 64), (3, 3))
    return Row(codes, tuple(range(3, 3 + before)), tuple(range(20, 20 + after)), branches)


def test_targets_sit_one_place_before_the_answer() -> None:
    batch = pack([_row(1, 2, (Branch((), (7, 8)),))], [2])
    assert batch.token_ids.tolist() == [[3, 0, 0, 20, 21, 7, 8]]
    assert batch.soft.tolist() == [[False, True, True, False, False, False, False]]
    x = IGNORED
    assert batch.targets.tolist() == [[x, x, x, x, 7, 8, x]]


def test_branches_start_where_the_prefix_ends_and_do_not_see_each_other() -> None:
    batch = pack([_row(1, 1, (Branch((5,), (7,)), Branch((5,), (8, 9))))], [1])
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5]]
    seen = batch.mask[0, 0] == 0
    assert seen[5].tolist() == [True, True, True, False, False, True, False, False]


def test_branches_without_a_question_cannot_share_a_prefix() -> None:
    with pytest.raises(ValueError, match="last token"):
        pack([_row(1, 1, (Branch((), (7,)), Branch((), (8,))))], [1])


def test_the_loss_of_a_packed_row_is_the_sum_of_its_answers_alone() -> None:
    captioner = Captioner(PRESETS["tiny"], features=64, grid=(3, 3))
    branches = (Branch((30,), (40, 41, 2)), Branch((30,), (50, 2)), Branch((30, 31), (60, 61, 62)))
    torch.manual_seed(0)
    rows = [_row(2, 3, branches), _row(1, 1, branches[:1])]
    together = captioner.loss(rows)
    alone = [
        captioner.loss([Row(rows[0].codes, rows[0].before, rows[0].after, (b,))]) for b in branches
    ] + [captioner.loss([rows[1]])]
    torch.testing.assert_close(together, torch.stack(alone).sum(), atol=1e-4, rtol=1e-5)
