"""Measured doses survive their file, and belong to one atlas."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DOSES_FILE, DoseCurve, Doses
from sparse_encoder.errors import SparsightError

CAT = DoseCurve("cat", 4, None, "cat", (0.5, 1.0), 36, (20, 34), (0, 1), 1.0, 1.0, True)
FEATURE = DoseCurve(None, None, 2, "tabby", (1.0,), 36, (1,), (36,), None, None, None)


def small_atlas(scale: float = 1.0) -> FeatureAtlas:
    ones = np.ones(3, dtype=np.float32)
    return FeatureAtlas(
        "f" * 64, ["a", "b", "tabby"], [[], [], []], ones, ones / 10, ones, ones, ones * scale,
        ones * 2, ones / 2, frozenset({"cat"}),
    )  # fmt: skip


def small_doses(atlas: FeatureAtlas) -> Doses:
    return Doses(atlas.fingerprint, atlas.scales_sha256, {"corruption": 0.1}, (CAT, FEATURE))


def test_a_file_gives_back_equal_curves_and_settings(tmp_path: Path) -> None:
    doses = small_doses(small_atlas())
    doses.save(tmp_path)
    found = Doses.load(tmp_path)
    assert found is not None
    assert (found.curves, found.settings) == (doses.curves, doses.settings)
    assert found.sha256 == doses.sha256
    assert found.of_concept("cat", 4) == CAT
    assert found.of_concept("cat", 16) is None
    assert found.of_feature(2) == FEATURE


def test_the_digest_tells_any_two_calibrations_apart() -> None:
    doses = small_doses(small_atlas())
    others = [
        replace(doses, curves=(CAT,)),
        replace(doses, curves=(replace(CAT, safe_max=0.5), FEATURE)),
        replace(doses, settings={"corruption": 0.2}),
    ]
    assert len({doses.sha256, *(other.sha256 for other in others)}) == 4


def test_an_atlas_opens_with_the_doses_beside_it(tmp_path: Path) -> None:
    atlas = small_atlas()
    replace(atlas, doses=small_doses(atlas)).save(tmp_path)
    found = FeatureAtlas.load(tmp_path).doses
    assert found is not None and found.curves == (CAT, FEATURE)


def test_an_atlas_that_is_saved_without_doses_keeps_those_that_fit(tmp_path: Path) -> None:
    atlas = small_atlas()
    atlas.save(tmp_path)
    small_doses(atlas).save(tmp_path)
    atlas.save(tmp_path)
    assert FeatureAtlas.load(tmp_path).doses is not None


def test_an_atlas_of_other_scales_removes_the_doses_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small_doses(small_atlas()).save(tmp_path)
    small_atlas(scale=1.5).save(tmp_path)
    assert FeatureAtlas.load(tmp_path).doses is None
    assert "is removed" in caplog.text


def test_doses_of_other_scales_are_not_opened(tmp_path: Path) -> None:
    small_atlas(scale=1.5).save(tmp_path)
    small_doses(small_atlas()).save(tmp_path)
    with pytest.raises(SparsightError, match="another atlas"):
        FeatureAtlas.load(tmp_path)


def test_an_atlas_cannot_be_made_with_doses_of_another() -> None:
    with pytest.raises(ValueError, match="other scales"):
        replace(small_atlas(scale=1.5), doses=small_doses(small_atlas()))


@pytest.mark.parametrize("content", [b"", b"PAR1 and so on", b"{}"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DOSES_FILE).write_bytes(content)
    with pytest.raises(SparsightError, match=DOSES_FILE):
        Doses.load(tmp_path)


@pytest.mark.parametrize(
    "counts",
    [
        {"successes": (1,)},
        {"successes": (37, 1)},
        {"corrupt": (-1, 0)},
        {"doses": (0.5,)},
    ],
)
def test_a_curve_with_impossible_counts_is_refused(counts: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="cat"):
        replace(CAT, **counts)  # type: ignore[arg-type]


def test_one_concept_has_one_curve() -> None:
    with pytest.raises(ValueError, match="two curves"):
        Doses("f" * 64, "s", {}, (CAT, replace(CAT, safe_max=None)))
