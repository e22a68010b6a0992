"""The contrastive loss against torch's cross-entropy and cases done by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.contrastive import (
    contrastive_loss,
    excess_spread,
    similarity_scale,
    soft_match,
    teacher_loss,
    unit,
)


@given(seed=st.integers(0, 2**31 - 1), n=st.integers(2, 9))
def test_with_one_positive_each_the_loss_is_clips(seed: int, n: int) -> None:
    torch.manual_seed(seed)
    image, text = unit(torch.rand(n, 16)), unit(torch.rand(n, 16))
    logits, target = 7.0 * image @ text.T, torch.arange(n)
    clip = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    ours = contrastive_loss(image, text, torch.tensor(7.0), torch.eye(n))
    torch.testing.assert_close(ours, clip, atol=1e-5, rtol=1e-5)


def test_two_orthogonal_pairs_give_the_loss_done_by_hand() -> None:
    # Logits are 2 on the diagonal and 0 off it: -log(e^2 / (e^2 + 1)).
    by_hand = math.log(1 + math.exp(-2))
    ours = contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(2.0), torch.eye(2))
    assert float(ours) == pytest.approx(by_hand)


def test_samples_of_one_group_match_in_full_and_like_texts_in_part() -> None:
    group = torch.tensor([1, 1, 2, 3])
    text = torch.tensor([[1.0, 0], [0, 1], [1, 0.0], [-1, 0]])
    match = soft_match(group, text, weight=0.5, temperature=0.1)
    assert match[0, 1] == 1 and match[2, 2] == 1
    assert match[0, 2] == pytest.approx(0.5)  # the same text in another group
    assert match[0, 3] < 1e-6  # the opposite text


def test_a_row_without_active_features_gives_finite_gradients() -> None:
    code = torch.zeros(3, 8, requires_grad=True)
    contrastive_loss(unit(code), unit(code), torch.tensor(5.0), torch.eye(3)).backward()
    assert code.grad is not None and torch.isfinite(code.grad).all()


def test_only_codes_denser_than_allowed_are_pressed() -> None:
    sparse, dense = torch.zeros(16), torch.ones(16)
    sparse[0] = 1.0
    image = torch.stack([sparse, unit(dense)])
    share = (image > 0).float().mean(1)
    assert float(excess_spread(image, share, allowed=0.5)) == pytest.approx(0.5)  # one of two rows
    assert float(excess_spread(image, share, allowed=1.0)) == 0


def test_the_teachers_loss_is_least_where_both_agree() -> None:
    names = torch.eye(4)
    teacher = torch.eye(4)[:2]
    right = teacher_loss(torch.eye(4)[:2], names, torch.tensor(20.0), teacher)
    wrong = teacher_loss(torch.eye(4)[2:], names, torch.tensor(20.0), teacher)
    assert float(right) < 0.01 < float(wrong)


def test_the_scale_never_passes_its_cap() -> None:
    assert float(similarity_scale(torch.tensor(9.0), cap=50)) == 50
    assert float(similarity_scale(torch.tensor(1.0), cap=50)) == pytest.approx(math.e)
