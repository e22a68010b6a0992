"""Recall against a naive double loop."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.contrastive import unit
from sparse_encoder.retrieval import recall
from sparse_encoder.zeroshot import accuracy, class_codes


@given(seed=st.integers(0, 2**31 - 1), n=st.integers(2, 8))
def test_recall_equals_a_double_loop(seed: int, n: int) -> None:
    torch.manual_seed(seed)
    text, image = unit(torch.rand(2 * n, 6)), unit(torch.rand(n, 6))
    owner = torch.arange(n).repeat_interleave(2)
    similarity = (text @ image.T).tolist()
    found = recall(text, image, owner, ks=(1, 2))
    for k in (1, 2):
        hits = [
            sum(similarity[t][i] >= similarity[t][owner[t]] for i in range(n)) - 1 < k
            for t in range(2 * n)
        ]
        assert found[f"t2i@{k}"] == torch.tensor(hits).float().mean().item()
        rows = []
        for i in range(n):
            best = max(similarity[t][i] for t in range(2 * n) if owner[t] == i)
            rivals = sum(similarity[t][i] >= best for t in range(2 * n) if owner[t] != i)
            rows.append(rivals < k)
        assert found[f"i2t@{k}"] == torch.tensor(rows).float().mean().item()


def test_codes_that_are_all_alike_recall_nothing() -> None:
    same = unit(torch.ones(4, 3))
    assert recall(same, same, torch.arange(4), ks=(1,))["t2i@1"] == 0


def test_zero_shot_picks_the_class_whose_text_is_nearest() -> None:
    codes = class_codes(
        ["cat", "dog"],
        lambda texts: torch.tensor([[1.0, 0.1] if "cat" in t else [0.1, 1.0] for t in texts]),
    )
    images = unit(torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]))
    assert accuracy(images, codes, torch.tensor([0, 1, 1])) == torch.tensor(2 / 3).item()
