"""A clamp without a value takes the effective dose, or says why it cannot; too much is warned of."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.doses import DoseCurve, Doses
from vlm.apply import apply_edits
from vlm.concepts import resolve
from vlm.default_dose import UncalibratedError
from vlm.dose_warnings import ABOVE_SAFE, dose_warnings
from vlm.edits import Edit

Encode = Callable[[list[str]], Tensor]


def curve(
    concept: str | None, effective: float | None, safe: float | None, *, feature: int | None = None
) -> DoseCurve:
    k = None if concept is None else 2
    name = concept or "woman"
    counts = (0.5, 1.0, 2.0), 40, (0, 10, 20), (0, 0, 9)
    return DoseCurve(concept, k, feature, name, *counts, effective, safe, None)


def with_doses(atlas: FeatureAtlas, *curves: DoseCurve) -> FeatureAtlas:
    settings = {"corruption": 0.1}
    doses = Doses(atlas.fingerprint, atlas.scales_sha256, settings, curves)
    return replace(atlas, doses=doses)


def test_a_clamp_without_a_value_takes_the_effective_dose(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    atlas = with_doses(tiny_atlas, curve("cat", 0.75, 1.0))
    (left_out,) = resolve([Edit("clamp", " Cat", k=2)], atlas, fake_encode_text)
    (given,) = resolve([Edit("clamp", "cat", k=2, value=0.75)], atlas, fake_encode_text)
    assert left_out.p99_values == given.p99_values == (0.75, 0.75)
    assert left_out.raw_values == given.raw_values


@pytest.mark.parametrize(
    ("curves", "k", "word"),
    [
        (None, 2, "no calibrated doses"),
        ([curve("dog", 1.0, 1.0)], 2, "not among 1 concepts"),
        ([curve("cat", 1.0, 1.0)], 3, "only with k = 2"),
        ([curve("cat", None, None)], 2, "none of the doses tried \\(0.5 to 2 p99\\)"),
        ([curve("cat", None, 1.0)], 2, "no dose up to 1 p99"),
        ([curve(None, 1.0, 1.0, feature=1)], 2, "not among 0 concepts"),
    ],
)
def test_a_clamp_without_a_value_and_without_a_dose_is_refused_with_the_reason(
    tiny_atlas: FeatureAtlas,
    fake_encode_text: Encode,
    curves: list[DoseCurve] | None,
    k: int,
    word: str,
) -> None:
    atlas = tiny_atlas if curves is None else with_doses(tiny_atlas, *curves)
    with pytest.raises(UncalibratedError, match=word) as refused:
        resolve([Edit("ablate", "man"), Edit("clamp", "cat", k=k)], atlas, fake_encode_text)
    assert refused.value.param == "steering.edits[1].value"
    assert (refused.value.code, "give a value" in refused.value.message) == ("uncalibrated", True)


def test_a_clamp_of_a_feature_without_a_value_takes_the_features_effective_dose(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    atlas = with_doses(tiny_atlas, curve(None, 0.75, 1.0, feature=4))
    (found,) = resolve([Edit("clamp", feature=4)], atlas, fake_encode_text)
    assert found.p99_values == (0.75,)
    assert found.raw_values == pytest.approx((0.75 * float(atlas.p99[4]),))


@pytest.mark.parametrize(
    ("curves", "word"),
    [
        (None, "no calibrated doses"),
        ([curve("cat", 1.0, 1.0)], "not among 0 calibrated features"),
        ([curve(None, 1.0, 1.0, feature=3)], "not among 1 calibrated features"),
        ([curve(None, None, None, feature=4)], "none of the doses tried"),
        ([curve(None, None, 1.0, feature=4)], "no dose up to 1 p99"),
    ],
)
def test_a_clamp_of_a_feature_without_a_dose_is_refused_with_the_reason(
    tiny_atlas: FeatureAtlas,
    fake_encode_text: Encode,
    curves: list[DoseCurve] | None,
    word: str,
) -> None:
    atlas = tiny_atlas if curves is None else with_doses(tiny_atlas, *curves)
    with pytest.raises(UncalibratedError, match=word) as refused:
        resolve([Edit("clamp", feature=4)], atlas, fake_encode_text)
    assert refused.value.param == "steering.edits[0].value"
    assert "the clamp of feature 4 has no value" in refused.value.message


def warnings(atlas: FeatureAtlas, encode: Encode, edit: Edit, level: float = 0.0) -> list[str]:
    codes = Codes.from_dense(torch.full((5, 12), level), (2, 2))
    applied = apply_edits(codes, resolve([edit], atlas, encode))[1]
    return list(dose_warnings(applied, [edit], atlas))


CURVES = (curve("cat", 0.5, 1.0), curve("man", None, None), curve(None, 1.0, 2.0, feature=4))


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (Edit("clamp", "cat", k=2, value=1.1), "cat goes to 1.1 p99"),
        (Edit("clamp", "cat", k=2, value=1.0), None),  # at the safe dose, not above it
        (Edit("clamp", "cat", k=2), None),
        (Edit("clamp", "cat", k=1, value=4.0), None),  # not calibrated at this k
        (Edit("add", "cat", k=2, value=1.5), "cat goes to 1.5 p99"),
        (Edit("clamp", "cat", k=2, value=5.0, unit="raw"), "cat goes to"),
        (Edit("clamp", "man", k=2, value=0.25), "none was found"),
        (Edit("clamp", "dog", k=2, value=8.0), None),
        (Edit("ablate", "man", k=2), None),
        (Edit("clamp", feature=4, value=2.5), "#4 \\(woman\\) goes to 2.5 p99"),
        (Edit("clamp", feature=4, value=2.0), None),
        (Edit("clamp", feature=3, value=8.0), None),
    ],
)
def test_a_dose_above_the_safe_one_is_warned_of_and_no_other(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode, edit: Edit, word: str | None
) -> None:
    found = warnings(with_doses(tiny_atlas, *CURVES), fake_encode_text, edit)
    if word is None:
        assert found == []
        return
    (line,) = found
    assert ABOVE_SAFE in line and line.startswith("edit 0 on image 0: ")
    assert re.search(word, line), line


def test_a_scale_is_judged_by_where_it_ends(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    atlas = with_doses(tiny_atlas, *CURVES)
    scale = Edit("scale", feature=4, value=3.0)  # p99 is 1.4
    assert warnings(atlas, fake_encode_text, scale, level=1.4)  # to 3 p99
    assert not warnings(atlas, fake_encode_text, scale, level=0.7)
    weaker = Edit("scale", feature=4, value=0.9)
    assert not warnings(atlas, fake_encode_text, weaker, level=8.0)


def test_an_atlas_without_doses_warns_of_none(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    assert warnings(tiny_atlas, fake_encode_text, Edit("clamp", "cat", k=2, value=8.0)) == []
