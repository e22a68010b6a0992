"""FSC-CLIP's local loss against a loop over its formulas, and the captions with words displaced."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.errors import SparsightError
from sparse_encoder.hard_negatives import (
    GAMMA,
    SMOOTHING,
    hard_negative_loss,
    local_hard_negative_loss,
    local_similarity,
    negative_batch,
    negative_captions,
    shuffle_pairs,
    swap_words,
    text_aligned_patches,
)

SCALE = torch.tensor(7.0)


def _plain_similarity(patches: Tensor, tokens: Tensor, mask: Tensor, scale: float) -> float:
    """S_l of one image and one text, by eq. 6 to 8 word for word."""
    total = 0.0
    for token, real in zip(tokens, mask, strict=True):
        if not real:
            continue
        s = [float(token @ patch) for patch in patches]
        a = [(v - min(s)) / (max(s) - min(s)) for v in s]
        aligned = sum(w * p for w, p in zip(a, patches, strict=True)) / sum(a)
        cosine = float(aligned @ token / aligned.norm() / token.norm())
        total += math.exp(cosine * scale)
    return total


def _plain_loss(scores: list[list[float]], gamma: float, beta: float) -> float:
    """Eq. 5, 9 and 10 of each image's S_l, the true caption's first."""
    losses = []
    for row in scores:
        p = [s / sum(row) for s in row]
        y = [(1 - beta) * (k == 0) + beta / len(row) for k in range(len(row))]
        losses.append(sum(-((1 - q) ** gamma) * t * math.log(q) for q, t in zip(p, y, strict=True)))
    return sum(losses) / len(losses)


def _batch(seed: int, n: int = 3, negatives: int = 2) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    patches = torch.randn(n, 6, 8, generator=g)
    tokens = torch.randn(n, 5, 8, generator=g)
    others = torch.randn(n, negatives, 5, 8, generator=g)
    mask = torch.arange(5) < torch.randint(1, 6, (n, 1), generator=g)
    other_mask = torch.arange(5) < torch.randint(1, 6, (n, negatives, 1), generator=g)
    return patches, tokens, mask, others, other_mask


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_local_loss_is_the_papers_word_for_word(seed: int) -> None:
    patches, tokens, mask, others, other_mask = (t.double() for t in _batch(seed))
    scores = []
    for i in range(3):
        row = [_plain_similarity(patches[i], tokens[i], mask[i], 7.0)]
        row += [
            _plain_similarity(patches[i], others[i, k], other_mask[i, k], 7.0) for k in range(2)
        ]
        scores.append(row)
    ours = local_hard_negative_loss(patches, tokens, mask, others, other_mask, SCALE)
    assert float(ours) == pytest.approx(_plain_loss(scores, GAMMA, SMOOTHING), rel=1e-3)


def test_without_focus_and_smoothing_it_is_cross_entropy() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    loss = hard_negative_loss(logits, torch.ones(4, 2), gamma=0.0, smoothing=0.0)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(loss, expected)


def test_a_case_by_hand() -> None:
    # Two texts of equal score: p = 1/2, label (0.99, 0.01), focal weight 1/4.
    loss = hard_negative_loss(torch.zeros(1, 2), torch.ones(1, 1), gamma=2.0, smoothing=0.02)
    assert float(loss) == pytest.approx(math.log(2) / 4)


@given(seed=st.integers(0, 2**31 - 1))
def test_a_missing_negative_counts_for_nothing(seed: int) -> None:
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
    real = torch.tensor([[True, False], [True, False]])
    noisy = logits.clone()
    noisy[:, 2] = 50.0
    loss = hard_negative_loss(logits[:, :2], torch.ones(2, 1))
    torch.testing.assert_close(hard_negative_loss(noisy, real), loss)


def test_an_image_without_negatives_is_left_out_and_all_without_give_zero() -> None:
    patches, tokens, mask, others, other_mask = _batch(0)
    other_mask[0] = False
    with_it = local_hard_negative_loss(patches, tokens, mask, others, other_mask, SCALE)
    without = local_hard_negative_loss(
        patches[1:], tokens[1:], mask[1:], others[1:], other_mask[1:], SCALE
    )
    torch.testing.assert_close(with_it, without)
    patches.requires_grad_()
    none = local_hard_negative_loss(
        patches, tokens, mask, others, torch.zeros_like(other_mask), SCALE
    )
    none.backward()
    assert float(none.detach()) == 0
    assert patches.grad is not None and torch.isfinite(patches.grad).all()


def test_padding_changes_nothing() -> None:
    patches, tokens, mask, _, _ = _batch(3)
    noisy = torch.where(mask.unsqueeze(-1), tokens, 100.0)
    before, after = (local_similarity(patches, t, mask, SCALE) for t in (tokens, noisy))
    torch.testing.assert_close(before, after)


def test_equal_patches_are_weighed_alike() -> None:
    patch = torch.randn(1, 1, 8)
    aligned = text_aligned_patches(patch.expand(1, 6, 8), torch.randn(1, 2, 8))
    torch.testing.assert_close(aligned, patch.expand(1, 2, 8))


def test_every_input_gets_a_finite_gradient_and_a_step_lowers_the_loss() -> None:
    patches, tokens, mask, others, other_mask = _batch(5)
    leaves = [t.requires_grad_() for t in (patches, tokens, others)]
    scale = SCALE.clone().requires_grad_()

    def loss() -> Tensor:
        return local_hard_negative_loss(patches, tokens, mask, others, other_mask, scale)

    before = loss()
    grads = torch.autograd.grad(before, [*leaves, scale])
    assert all(torch.isfinite(g).all() and g.abs().sum() > 0 for g in grads)
    with torch.no_grad():
        for leaf, grad in zip(leaves, grads, strict=False):
            leaf -= 0.05 * grad
    assert loss() < before


def test_a_caption_that_fits_its_patches_costs_less_than_one_that_does_not() -> None:
    patches, tokens, mask, others, other_mask = _batch(6)
    fitting = patches[:, :5].clone()  # each token is a patch
    low = local_hard_negative_loss(patches, fitting, mask | True, others, other_mask, SCALE)
    high = local_hard_negative_loss(
        patches, tokens, mask, fitting.unsqueeze(1), torch.ones(3, 1, 5), SCALE
    )
    assert low < high


def test_bf16_vectors_are_scored_in_fp32() -> None:
    patches, tokens, mask, others, other_mask = _batch(7)
    low = (t.bfloat16() for t in (patches, tokens, others))
    p, t, o = low
    half = local_hard_negative_loss(p, t, mask, o, other_mask, SCALE)
    assert half.dtype == torch.float32
    full = local_hard_negative_loss(patches, tokens, mask, others, other_mask, SCALE)
    torch.testing.assert_close(half, full, atol=0.1, rtol=0.1)


def test_masks_of_another_shape_are_refused() -> None:
    patches, tokens, mask, others, other_mask = _batch(0)
    with pytest.raises(SparsightError, match="their mask"):
        local_hard_negative_loss(patches, tokens, mask, others, other_mask[:, :1], SCALE)


WORD = st.sampled_from(["a", "dog", "red", "ball", "chases", "the", "green", "cat", "on", "grass"])
WORDS = st.lists(WORD, max_size=9)


@given(words=WORDS, seed=st.integers(0, 999))
def test_a_negative_has_the_captions_words_in_another_order(words: list[str], seed: int) -> None:
    caption = " ".join(words) + "."
    for negative in negative_captions(caption, random.Random(seed)):
        assert negative != caption
        assert sorted(negative.rstrip(".").split()) == sorted(words)
        assert negative.endswith(".")


@pytest.mark.parametrize("caption", ["", "dog", "the dog", "a dog.", "dog dog"])
def test_captions_that_cannot_change_give_no_negative(caption: str) -> None:
    assert negative_captions(caption, random.Random(0)) == []


def test_a_swap_moves_content_words_and_keeps_punctuation() -> None:
    swapped = {swap_words("The cat, on a mat.", random.Random(i)) for i in range(20)}
    assert swapped == {"The mat, on a cat."}


def test_a_shuffle_keeps_pairs_together() -> None:
    shuffled = {shuffle_pairs("red dog blue cat", random.Random(i)) for i in range(20)}
    assert shuffled == {"blue cat red dog"}


def test_negatives_are_equal_for_equal_seeds_and_vary_with_them() -> None:
    captions = ["a red dog chases a green ball on the wet grass"] * 4
    assert negative_batch(captions, 1) == negative_batch(captions, 1)
    assert negative_batch(captions, 1) != negative_batch(captions, 2)
    first, *others = negative_batch(captions, 1)
    assert any(first != other for other in others)
