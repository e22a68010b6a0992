"""Codes with features dropped and amplified: what may change, and that nothing is drawn for nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from vlm.concept_swaps import Swap, Thing
from vlm.edited_codes import CodeEditor, EditShares, disturbed

NONE = EditShares(swap=0.0)


def code(seed: int) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(5, 40, generator=generator)
    return Codes.from_dense(dense * (dense > 0.6), (2, 2))


@given(seed=st.integers(0, 2**31 - 1))
def test_shares_of_zero_change_nothing_and_draw_nothing(seed: int) -> None:
    random, twin = np.random.default_rng(seed), np.random.default_rng(seed)
    codes = code(seed)
    assert disturbed(codes, NONE, random) is codes
    assert random.random() == twin.random()


@given(seed=st.integers(0, 2**31 - 1), dropped=st.floats(0, 1))
def test_a_dropped_feature_goes_from_all_rows_and_others_stay(seed: int, dropped: float) -> None:
    codes = code(seed)
    shares = replace(NONE, dropout=1.0, dropped=dropped)
    out = disturbed(codes, shares, np.random.default_rng(seed)).dense()
    before = codes.dense()
    gone = (before != 0).any(0) & (out == 0).all(0)
    assert torch.equal(out, before.masked_fill(gone, 0.0))
    if dropped in (0.0, 1.0):
        assert bool(gone.any()) == bool(dropped and before.any())


@given(seed=st.integers(0, 2**31 - 1))
def test_an_amplified_feature_grows_by_one_factor_in_all_rows(seed: int) -> None:
    codes = code(seed)
    shares = replace(NONE, amplify=1.0, amplified=0.5, most_factor=3.0)
    out = disturbed(codes, shares, np.random.default_rng(seed)).dense()
    before = codes.dense()
    assert torch.equal(out != 0, before != 0)
    factor = out / before
    most = factor.nan_to_num(0.0).amax(0)
    least = factor.nan_to_num(torch.inf).amin(0)
    active = (before != 0).any(0)
    torch.testing.assert_close(most[active], least[active])
    assert (most[active] >= 1 - 1e-5).all() and (most[active] <= 3.0 + 1e-5).all()


def test_about_the_asked_share_of_features_is_dropped_and_amplified() -> None:
    codes = Codes.from_dense(torch.ones(1, 10_000))
    random = np.random.default_rng(0)
    dropped = disturbed(codes, replace(NONE, dropout=1.0, dropped=0.1), random)
    assert len(dropped.index) == pytest.approx(9_000, rel=0.02)
    grown = disturbed(codes, replace(NONE, amplify=1.0, amplified=0.2), random)
    assert int((grown.value > 1).sum()) == pytest.approx(2_000, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"swap": 1.1}, "edits.swap=1.1 is a share"),
        ({"dropped": -0.1}, "edits.dropped"),
        ({"amplify": 2.0}, "edits.amplify"),
        ({"most_factor": 0.5}, "1 or more"),
        ({"least_dose": 3.0}, "the least first"),
        ({"suppress": 0.7, "insert": 0.4}, "edits.insert=0.4: shares of the same swaps"),
    ],
)
def test_bad_shares_are_refused(settings: dict[str, float], word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        EditShares(**settings)  # type: ignore[arg-type]


DOG, CAT, MAN = (Thing(name, f"{name}s", "animal") for name in ("dog", "cat", "man"))


@pytest.mark.parametrize(
    ("swap", "active"),
    [
        (Swap(DOG, None, "An animal."), (3,)),
        (Swap(None, CAT, "A dog and a cat."), (0, 1, 2, 3, 9)),
        (Swap(DOG, MAN, "A man."), (3, 10)),
        (Swap(MAN, None, "A man, of whom the code hardly has any."), None),
    ],
)
def test_codes_change_as_the_caption_does(
    swap: Swap,
    active: tuple[int, ...] | None,
    tiny_atlas: FeatureAtlas,
    fake_encode_text: Callable[[list[str]], Tensor],
) -> None:
    dense = torch.zeros(1, 12)
    dense[0, [0, 2, 3]] = torch.tensor([1.0, 0.5, 0.01])
    editor = CodeEditor(tiny_atlas, fake_encode_text, EditShares(ks=(4,), least_dose=1.0))
    edited = editor.swapped(Codes.from_dense(dense), swap, np.random.default_rng(0))
    assert (None if edited is None else tuple(edited.index.tolist())) == active
