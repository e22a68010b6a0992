"""Clarity against the mean over all pairs, and against the package of its authors."""

import importlib.util
from math import nan
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.clarity import ClarityStats

seeds = st.integers(0, 2**31 - 1)


def random_inputs(seed: int, n: int, n_features: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    levels = torch.tensor([0.0, 0.0005, 0.002, 3.0])  # two below the threshold, two above
    code = levels[torch.randint(0, 4, (n, n_features), generator=random)]
    return code, unit(torch.randn(n, 5, generator=random))


def streamed(code: Tensor, embedding: Tensor, batch: int) -> ClarityStats:
    stats = ClarityStats(code.shape[1], embedding.shape[1])
    for rows in torch.arange(len(code)).split(batch):
        stats.add(code[rows], embedding[rows])
    return stats


def naive(embedding: Tensor, members: list[int], min_images: int) -> float:
    if len(members) < min_images:
        return nan
    e = embedding.double()
    pairs = [float(e[n] @ e[m]) for n in members for m in members if n < m]
    return sum(pairs) / len(pairs)


@given(
    seed=seeds,
    n=st.integers(1, 9),
    n_features=st.integers(1, 5),
    batch=st.integers(1, 4),
    min_images=st.integers(2, 4),
)
def test_the_closed_form_equals_the_mean_over_all_pairs(
    seed: int, n: int, n_features: int, batch: int, min_images: int
) -> None:
    code, embedding = random_inputs(seed, n, n_features)
    stats = streamed(code, embedding, batch)
    expected = [
        naive(embedding, [i for i in range(n) if code[i, k] > 0.001], min_images)
        for k in range(n_features)
    ]
    assert stats.scores(min_images).tolist() == pytest.approx(expected, abs=1e-5, nan_ok=True)
    known = [value for value in expected if value == value]
    found = stats.summary(min_images)
    assert found.n_features == len(known)
    assert found.mean == (pytest.approx(sum(known) / len(known), abs=1e-5) if known else None)
    base = naive(embedding, list(range(n)), 2)
    assert found.baseline == (pytest.approx(base, abs=1e-5) if n > 1 else None)


def test_the_lift_is_the_share_of_what_the_baseline_leaves() -> None:
    code = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    embedding = torch.eye(4)[[0, 0, 1, 2]]
    found = streamed(code, embedding, 4).summary()
    assert found.mean == pytest.approx(1.0)
    assert found.baseline == pytest.approx(1 / 6)  # one of six pairs is alike
    assert found.lift == pytest.approx(1.0)


def test_images_that_are_all_alike_have_no_lift() -> None:
    found = streamed(torch.ones(3, 2), torch.eye(3)[[0, 0, 0]], 2).summary()
    assert (found.mean, found.baseline, found.lift) == (1, 1, None)


def test_two_images_of_20_000_give_their_own_cosine() -> None:
    random = torch.Generator().manual_seed(0)
    embedding = unit(torch.randn(20_000, 4, generator=random))
    code = torch.zeros(20_000, 1)
    code[[5, 19_000], 0] = 1.0
    scores = streamed(code, embedding, 500).scores()
    assert float(scores[0]) == pytest.approx(float(embedding[5] @ embedding[19_000]), abs=1e-6)


@pytest.fixture(scope="module")
def semanticlens_scores() -> ModuleType:
    """Its file of scores alone: the package imports open_clip and with it torchvision, which no
    test here may need (it does not import beside the CPU build of torch)."""
    pytest.importorskip("sklearn", reason="semanticlens' scores need scikit-learn")
    package = importlib.util.find_spec("semanticlens")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs pip install --no-deps semanticlens: its dependencies bring torchvision")
    path = f"{package.submodule_search_locations[0]}/scores.py"
    spec = importlib.util.spec_from_file_location("semanticlens_scores", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(seed=seeds, n_features=st.integers(1, 4), n=st.integers(2, 6))
def test_clarity_equals_that_of_semanticlens(
    semanticlens_scores: ModuleType, seed: int, n_features: int, n: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    members = unit(torch.randn(n_features, n, 5, generator=random))  # each feature's own images
    code = torch.eye(n_features).repeat_interleave(n, 0)
    found = streamed(code, members.flatten(0, 1), 3).scores()
    expected = semanticlens_scores.clarity_score(members)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("n_codes", "embedding", "word"),
    [
        (2, torch.eye(3), "2 codes but 3 embeddings"),
        (2, torch.tensor([[1.0, 0.0], [3.0, 0.0]]), "length 3"),
        (1, torch.zeros(1, 2), "length 0"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(n_codes: int, embedding: Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ClarityStats(4, embedding.shape[1]).add(torch.ones(n_codes, 4), embedding)


def test_no_image_has_no_clarity() -> None:
    with pytest.raises(SparsightError, match="no Clarity"):
        ClarityStats(2, 2).summary()


def test_one_image_gives_no_score_instead_of_a_number() -> None:
    found = streamed(torch.ones(1, 2), torch.eye(2)[:1], 1).summary()
    assert (found.n_features, found.mean, found.baseline, found.lift) == (0, None, None, None)


def test_a_pair_takes_two_images() -> None:
    with pytest.raises(ValueError, match="two images"):
        streamed(torch.ones(2, 1), torch.eye(2), 1).scores(1)
