"""The streamed best match is that of the whole correlation matrix."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.emergence.correlation import Matches, Moments, best_matches


def moments(code: Tensor) -> Moments:
    return Moments(code.double().mean(0), code.double().std(0, correction=0))


def batches(code: Tensor, size: int) -> Callable[[], Iterator[Codes]]:
    return lambda: (Codes.from_dense(part) for part in code.split(size))


def matches(later: Tensor, earlier: Tensor, held: int = 1 << 20, size: int = 7) -> Matches:
    both = moments(later), moments(earlier)
    return best_matches(batches(later, size), batches(earlier, size), both, len(later), held=held)


def codes(seed: int, n: int = 30, features: int = 9) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(n, features, generator=random) - 0.3).relu()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), held=st.sampled_from([1, 20, 10_000]))
def test_best_and_own_matches_are_those_of_the_whole_matrix(seed: int, held: int) -> None:
    later, earlier = codes(seed), codes(seed + 1)
    found = matches(later, earlier, held)
    plain = np.corrcoef(later.numpy().T, earlier.numpy().T)[:9, 9:]
    np.testing.assert_allclose(found.own.numpy(), plain.diagonal(), atol=1e-4)
    np.testing.assert_allclose(found.best.numpy(), plain.max(1), atol=1e-4)
    assert plain[np.arange(9), found.index.numpy()] == pytest.approx(plain.max(1), abs=1e-4)


def test_features_that_only_changed_places_are_found_at_their_old_ones() -> None:
    later = codes(0)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(5))
    found = matches(later, later[:, order])
    assert found.best.tolist() == pytest.approx([1.0] * 9, abs=1e-5)
    assert order[found.index].tolist() == list(range(9))


def test_what_is_equal_on_all_images_has_no_correlation_and_is_no_match() -> None:
    later, earlier = codes(0), codes(1)
    later[:, 2] = 0.0
    earlier[:, 3] = 0.0
    earlier[:, 4] = 2.5
    found = matches(later, earlier)
    assert found.own[[2, 3, 4]].isnan().all()
    assert int(found.index[2]) == -1
    assert found.best[2].isnan()
    assert not {3, 4} & set(found.index.tolist())
    nothing = matches(later, torch.zeros(30, 9))
    assert (nothing.index == -1).all()
    assert nothing.best.isnan().all()


def test_of_equal_matches_the_lowest_index_is_named() -> None:
    later = codes(0)
    found = matches(later, later[:, [0, 0, 0, 1, 1, 2, 2, 2, 3]])
    assert found.index[:4].tolist() == [0, 3, 5, 8]
