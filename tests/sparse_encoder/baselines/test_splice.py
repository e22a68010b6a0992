import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.baselines.splice import gradient, nonnegative_lasso, splice, violation
from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError

seeds = st.integers(0, 2**31 - 1)


def problem(seed: int, n_words: int = 20, width: int = 6, n: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    words = unit(torch.randn(n_words, width, generator=generator))
    return words, unit(torch.randn(n, width, generator=generator))


def by_coordinates(words: Tensor, x: Tensor, l1: float) -> Tensor:
    """One row at a time, one word after another: the plain twin, in float64."""
    words, x = words.double(), x.double()
    w = torch.zeros(len(x), len(words), dtype=torch.float64)
    for i in range(len(x)):
        for _ in range(3000):
            for k in range(len(words)):
                rest = x[i] - w[i] @ words + w[i, k] * words[k]
                w[i, k] = max(0.0, float(rest @ words[k]) - l1) / float(words[k] @ words[k])
            if violation(words, x[i : i + 1], w[i : i + 1], l1) < 1e-9:
                break
    return w


@settings(max_examples=25)
@given(seed=seeds, l1=st.floats(0.05, 0.9))
def test_the_solution_satisfies_the_optimality_conditions(seed: int, l1: float) -> None:
    words, x = problem(seed)
    w = nonnegative_lasso(words, x, l1, tolerance=1e-4)
    slope = gradient(words, x, w, l1)
    assert (w >= 0).all()
    assert (slope[w > 0].abs() <= 1.01e-4).all()
    assert (slope[w == 0] >= -1.01e-4).all()


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_coordinate_descent_finds(seed: int) -> None:
    words, x = problem(seed, n_words=8, n=2)
    w = nonnegative_lasso(words, x, 0.1, tolerance=1e-5)
    plain = by_coordinates(words, x, 0.1).float()
    torch.testing.assert_close(w @ words, plain @ words, atol=1e-3, rtol=0)
    torch.testing.assert_close(w, plain, atol=5e-3, rtol=0)


def test_orthogonal_words_get_what_exceeds_the_penalty() -> None:
    words = torch.eye(4)
    x = torch.tensor([[0.9, -0.4, 0.15, 0.5]])
    w = nonnegative_lasso(words, x, 0.2)
    torch.testing.assert_close(w, torch.tensor([[0.7, 0.0, 0.0, 0.3]]), atol=2e-3, rtol=0)


@settings(max_examples=25)
@given(seed=seeds)
def test_rows_do_not_depend_on_the_block_that_they_come_in(seed: int) -> None:
    words, x = problem(seed, width=12)
    together = nonnegative_lasso(words, x, 0.2, tolerance=1e-4)
    alone = torch.cat([nonnegative_lasso(words, row[None], 0.2, tolerance=1e-4) for row in x])
    # Up to the tolerance of the conditions; words that are alike may share the weight otherwise.
    torch.testing.assert_close(together @ words, alone @ words, atol=5e-3, rtol=0)


def test_a_penalty_above_every_likeness_leaves_no_word() -> None:
    words, x = problem(0)
    assert (nonnegative_lasso(words, x, 1.01) == 0).all()


def test_a_higher_penalty_leaves_fewer_words() -> None:
    words, x = problem(0, n_words=200, width=32, n=20)
    counts = [int((nonnegative_lasso(words, x, l1) > 0).sum()) for l1 in (0.05, 0.2, 0.4)]
    assert counts[0] > counts[1] > counts[2] > 0


def test_steps_that_do_not_suffice_are_reported_with_what_is_missing() -> None:
    words, x = problem(0, n_words=200, width=32)
    with pytest.raises(SparsightError, match="after 10 steps"):
        nonnegative_lasso(words, x, 0.01, tolerance=1e-7, most_steps=10)


def test_an_image_that_is_one_word_is_decomposed_into_it_and_comes_back() -> None:
    words = unit(torch.randn(50, 32, generator=torch.Generator().manual_seed(1)))
    image_mean = torch.zeros(32)
    decomposed = splice(words * 7, image_mean, 0.1)
    x = unit(decomposed.words[[3, 41]])
    code = decomposed.code(x * 5)  # lengths of words and images say nothing
    assert code.argmax(1).tolist() == [3, 41]
    assert (decomposed.decode(code) * x).sum(1).min() > 0.98
    torch.testing.assert_close(decomposed.decode(code).norm(dim=1), torch.ones(2))


def test_what_is_taken_off_as_the_mean_of_images_is_put_back() -> None:
    words, x = problem(2, n_words=60, width=8, n=30)
    x = unit(x + 2)
    decomposed = splice(words, x.mean(0), 0.05)
    code = decomposed.code(x)
    with_mean = (decomposed.decode(code) * x).sum(1)
    without = (unit(code @ decomposed.words) * x).sum(1)
    assert (with_mean > without).all()


@pytest.mark.parametrize("l1", [0.0, -1.0])
def test_a_penalty_that_leaves_all_words_is_refused(l1: float) -> None:
    with pytest.raises(SparsightError, match="above 0"):
        splice(torch.eye(3), torch.zeros(3), l1)
