"""The code as a list of features."""

import torch

from sparse_encoder.codes import Codes
from vlm.explain.strongest import global_code, strongest_features


def test_the_strongest_come_first_and_all_shares_add_up_to_one(tiny_atlas: object) -> None:
    rows = torch.zeros(5, 12)
    rows[0, [0, 3, 5, 8]] = torch.tensor([3.0, 1.0, 4.0, 1.0])
    rows[1:] = 9.0  # the cells do not count
    codes = Codes.from_dense(rows, (2, 2))
    found = strongest_features(codes, tiny_atlas, 12)
    assert [(f.feature, f.activation) for f in found] == [(5, 4.0), (0, 3.0), (3, 1.0), (8, 1.0)]
    assert abs(sum(f.share for f in found) - 1) < 1e-9
    assert found[0].p99 is None and found[0].name == "ghost"  # 5 is dead
    assert found[1].p99 == 3.0  # of feature 0, whose p99 is 1
    assert strongest_features(codes, tiny_atlas, 2) == found[:2]
    assert torch.equal(global_code(codes), rows[0])


def test_an_empty_code_has_no_features(tiny_atlas: object) -> None:
    assert strongest_features(Codes.from_dense(torch.zeros(1, 12)), tiny_atlas, 5) == ()
