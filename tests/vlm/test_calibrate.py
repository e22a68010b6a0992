"""A calibration of a captioner whose answer to each dose is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fake_captioner import (
    FakeAnswer,
    FakeRequest,
    FakeSample,
    fake_atlas,
    fake_request,
    fake_sample,
)

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DoseCurve, Doses
from sparse_encoder.errors import SparsightError
from vlm.calibrate import CalibrationSettings, calibrate, photograph_pool
from vlm.dose_report import DoseSummary, curve_line, doses_json, doses_table
from vlm.dose_target import DoseTarget

SETTINGS = CalibrationSettings(doses=(0.5, 1.0, 4.0), n_images=40, success=0.75, corruption=0.1)
CAT = DoseTarget("cat", 4, None, "cat")
FEATURE = DoseTarget(None, None, 3, "horse")
SAMPLES = [fake_sample(i, label="cat" if i == 0 else None) for i in range(43)]


@dataclass
class DosedCaptioner:
    """Says the target from a dose of 1 on, in 3 of 4 photographs; above 2 it babbles.

    Photograph 1 says cat without steering, and photograph 0 is labelled so.
    """

    fingerprint: str = "f" * 64
    atlas: FeatureAtlas = field(default_factory=fake_atlas)
    n_asked: int = 0
    fails_after: int | None = None

    def answer(self, requests: Sequence[FakeRequest]) -> list[FakeAnswer]:
        self.n_asked += len(requests)
        if self.fails_after is not None and self.n_asked > self.fails_after:
            raise KeyboardInterrupt
        return [self._one(request) for request in requests]

    def _one(self, request: FakeRequest) -> FakeAnswer:
        number = request.image.pixels.getpixel((0, 0))[0]  # type: ignore[index]
        if not request.edits:
            return FakeAnswer("A cat on a mat." if number == 1 else "A bus on a street.")
        (edit,) = request.edits
        word = "cat" if edit.concept else "horse"
        dose = edit.value or 0.0
        if dose > 2:
            return FakeAnswer(f"{word} {word} {word} {word} {word}")
        return FakeAnswer(
            f"A {word} on a street." if dose >= 1 and number % 4 else "A bus on a street."
        )


def run(
    folder: Path,
    captioner: DosedCaptioner | None = None,
    targets: Sequence[DoseTarget] = (CAT, FEATURE),
    settings: CalibrationSettings = SETTINGS,
    samples: Sequence[FakeSample] = SAMPLES,
    **options: object,
) -> Doses:
    return calibrate(
        captioner or DosedCaptioner(),
        samples,  # type: ignore[arg-type]
        targets,
        folder,
        settings,
        make_request=fake_request,
        **options,  # type: ignore[arg-type]
    )


def test_the_curve_counts_success_and_corruption_at_each_dose(tmp_path: Path) -> None:
    curve = run(tmp_path).of_concept("cat", 4)
    # of the photographs 2..41 a quarter does not answer to the dose
    assert curve == DoseCurve(
        "cat", 4, None, "cat", (0.5, 1.0, 4.0), 40, (0, 30, 0), (0, 0, 40), 1.0, 1.0, True
    )


def test_photographs_that_say_or_show_the_concept_are_left_out(tmp_path: Path) -> None:
    few = run(tmp_path, samples=SAMPLES[:10]).of_concept("cat", 4)
    assert few is not None and few.n_images == 8  # without photograph 0 and 1
    other = run(tmp_path, samples=SAMPLES[:10], overwrite=True).of_feature(3)
    assert other is not None and other.n_images == 10


def test_the_file_belongs_to_the_atlas(tmp_path: Path) -> None:
    captioner = DosedCaptioner()
    doses = run(tmp_path, captioner)
    captioner.atlas.save(tmp_path)
    found = FeatureAtlas.load(tmp_path, fingerprint="f" * 64).doses
    assert found is not None and found.sha256 == doses.sha256


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = DosedCaptioner()
    expected = run(tmp_path / "whole", whole)
    killed = DosedCaptioner(fails_after=43 + 120 + 50)  # in the second curve
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, killed)
    left = Doses.load(tmp_path)
    assert left is not None and [curve.name for curve in left.curves] == ["cat"]
    second = DosedCaptioner()
    assert run(tmp_path, second).sha256 == expected.sha256
    assert second.n_asked == whole.n_asked - 120


def test_a_run_with_nothing_left_asks_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    again = DosedCaptioner()
    run(tmp_path, again)
    assert again.n_asked == 0
    run(tmp_path, again, overwrite=True)
    assert again.n_asked == 43 + 2 * 120


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"settings": replace(SETTINGS, n_images=39)}, "images"),
        ({"settings": replace(SETTINGS, doses=(1.0,))}, "doses"),
        ({"samples": SAMPLES[1:]}, "photographs"),
    ],
)
def test_curves_measured_in_another_way_are_not_mixed(
    tmp_path: Path, change: dict[str, object], word: str
) -> None:
    run(tmp_path)
    with pytest.raises(SparsightError, match=f"(?s){word}.*--force"):
        run(tmp_path, **change)  # type: ignore[arg-type]
    assert run(tmp_path, overwrite=True, **change).curves  # type: ignore[arg-type]


def test_other_bars_judge_the_same_counts_anew_without_an_answer(tmp_path: Path) -> None:
    before = run(tmp_path)
    again = DosedCaptioner()
    stricter = run(tmp_path, again, settings=replace(SETTINGS, success=0.8, corruption=0.05))
    assert again.n_asked == 0
    assert [curve.successes for curve in stricter.curves] == [c.successes for c in before.curves]
    assert {(curve.effective, curve.safe_max) for curve in stricter.curves} == {(None, None)}
    found = Doses.load(tmp_path)
    assert found is not None and found.sha256 == stricter.sha256
    assert run(tmp_path, again).sha256 == before.sha256


def test_other_targets_join_what_is_there(tmp_path: Path) -> None:
    run(tmp_path, targets=[CAT])
    assert [curve.name for curve in run(tmp_path, targets=[FEATURE]).curves] == ["cat", "horse"]


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    run(tmp_path, told=lambda *line: told.append(line))
    assert told[-1] == ("done", 43 + 240, 43 + 240)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"doses": ()}, "doses"),
        ({"doses": (1.0, 0.5)}, "rising order"),
        ({"doses": (1.0, 1.0)}, "none twice"),
        ({"doses": (0.0, 1.0)}, "above 0"),
        ({"doses": (1.0, 8.5)}, "at most 8"),
        ({"doses": (float("nan"),)}, "nan"),
        ({"n_images": 0}, "images"),
        ({"success": 0.0}, "success"),
        ({"corruption": 1.0}, "corruption"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        CalibrationSettings(**settings)  # type: ignore[arg-type]


def test_nothing_to_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="no photograph"):
        run(tmp_path, samples=[])
    with pytest.raises(SparsightError, match="no concept or feature"):
        run(tmp_path, targets=[])


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    captioner = DosedCaptioner()
    with pytest.raises(SparsightError, match="cannot write"):
        run(tmp_path / "missing", captioner)
    assert captioner.n_asked == 0


def test_the_pool_does_not_depend_on_the_order_of_samples() -> None:
    keys = [sample.key for sample in photograph_pool(SAMPLES, 7)]  # type: ignore[arg-type]
    assert keys == [s.key for s in photograph_pool(SAMPLES[::-1], 7)]  # type: ignore[arg-type]
    assert len(keys) == 7


def test_the_report_tells_flat_curves_from_those_that_respond(tmp_path: Path) -> None:
    doses = run(tmp_path)
    flat = replace(doses.curves[0], concept="dog", name="dog", successes=(0, 0, 0), effective=None)
    summary = DoseSummary.of([*doses.curves, flat])
    assert (summary.effective.successes, summary.effective.eligible) == (2, 3)
    assert (summary.monotone.successes, summary.monotone.eligible) == (3, 3)
    assert (summary.responding.successes, summary.monotone_responding.eligible) == (2, 2)
    assert "cat" in doses_table(doses) and "75 %" in doses_table(doses)
    curve = replace(
        doses.curves[0], doses=(1.0, 2.0), n_images=36, successes=(0, 25), corrupt=(1, 0)
    )
    line = curve_line(curve)
    # Wilson by hand: 0.0 to 9.6, 0.5 to 14.2, 53.1 to 82.0.
    assert "1: 0 % (0-10), corrupt 3 % (0-14), 2: 69 % (53-82)" in line
    assert "1: -, 2: -" in curve_line(replace(curve, n_images=0, successes=(0, 0), corrupt=(0, 0)))
    point = doses_json(doses)["curves"][0]["points"][1]
    assert (point["dose"], point["success"]["successes"]) == (1.0, 30)
