"""Calibrates a model: a dose-response curve for each target, kept beside its atlas as it comes.

The file of curves is its own record of what is done: it is written whole after every curve, and a
run that was killed goes on with the targets that it lacks.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.dataset import Sample
from sparse_encoder.doses import DoseCurve, Doses
from sparse_encoder.errors import SparsightError
from vlm.answer_batches import Answering, GivenAnswer, MakeRequest, Question, answer_all
from vlm.corruption import CorruptionRules
from vlm.dose_list import check_doses
from vlm.dose_measure import DoseTrials
from vlm.dose_response import CORRUPTION_BAR, SUCCESS_ASKED, judged
from vlm.dose_target import DoseTarget
from vlm.template import DEFAULT_PROMPT
from vlm.verdicts import Judge, Nll, likelihoods

DEFAULT_DOSES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
DEFAULT_IMAGES = 36  # of so many one answer may be corrupt, with the bar at 15 %
BARS = ("success", "corruption")
POOL = 4  # photographs captioned unsteered, for one of a curve
BATCH_SIZE = 48  # small enough for two cores, and each step's weights are read for that many

Told = Callable[[str, int, int], None]  # what is measured, answers done, of how many


class Calibrated(Answering, Protocol):
    """What a calibration needs of ``vlm.pipeline.Pipeline``."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def atlas(self) -> FeatureAtlas: ...


@dataclass(frozen=True)
class CalibrationSettings:
    """How much to measure and what to ask.

    doses: p99, each in (0, 8]. n_images: photographs a dose. success: share of them that the
    effective dose reaches; corruption: the most that a safe dose may have by its interval; both in
    (0, 1).
    """

    doses: tuple[float, ...] = DEFAULT_DOSES
    n_images: int = DEFAULT_IMAGES
    success: float = SUCCESS_ASKED
    corruption: float = CORRUPTION_BAR

    def __post_init__(self) -> None:
        check_doses(self.doses, zero=False)
        if self.n_images < 1:
            raise SparsightError(f"images is {self.n_images}, expected 1 or more", param="images")
        for key in BARS:
            if not 0 < getattr(self, key) < 1:
                raise SparsightError(
                    f"{key} is {getattr(self, key):g}, expected above 0 and below 1", param=key
                )


def photograph_pool(samples: Iterable[Sample], n: int) -> list[Sample]:
    """The n photographs whose keys have the smallest hash, in that order; holds n at once.

    Which these are depends on the keys alone, not on the order of shards.
    """
    return heapq.nsmallest(
        n, samples, key=lambda sample: hashlib.sha256(sample.key.encode()).digest()
    )


def calibrate(
    pipeline: Calibrated,
    samples: Sequence[Sample],
    targets: Sequence[DoseTarget],
    folder: Path,
    settings: CalibrationSettings,
    *,
    nll: Nll | None = None,
    overwrite: bool = False,
    told: Told = lambda what, done, total: None,
    make_request: MakeRequest | None = None,
) -> Doses:
    """All curves in the atlas's folder, those of the targets among them.

    samples: the pool. nll: see `Judge`. overwrite: measure anew what is there; without it curves
    that were measured in the same way are kept. Raises SparsightError where there is no photograph
    or no target, a curve was measured in another way, or the folder cannot be written to. Curves that
    are there are judged by the settings' bars again.
    """
    if not samples or not targets:
        what, key = ("photograph", "data") if not samples else ("concept or feature", "concepts")
        raise SparsightError(f"no {what} to calibrate with; give at least one", param=key)
    how = _how(pipeline, samples, settings)
    before = None if overwrite else Doses.load(folder)
    kept = {} if before is None else _kept(before, how, targets, settings)
    todo = [target for target in targets if target.key not in kept]
    total = len(samples) + len(todo) * settings.n_images * len(settings.doses)
    done = 0

    def ask(what: str, questions: Sequence[Question]) -> list[GivenAnswer]:
        return answer_all(
            pipeline,
            questions,
            stage=what,
            on_progress=lambda stage, n, _: told(stage, min(done + n, total), total),
            batch_size=BATCH_SIZE,
            make_request=make_request,
        )

    doses = Doses(pipeline.fingerprint, pipeline.atlas.scales_sha256, how, tuple(kept.values()))
    _save(doses, folder)  # what cannot be written is refused now, not after an hour
    if not todo:
        return doses
    trials = _trials(pipeline, samples, targets, settings, ask, nll)
    done = len(samples)
    for target in todo:
        curve = trials.curve(target, settings.doses)
        done += settings.n_images * len(settings.doses)  # fewer may have been eligible
        kept[curve.target] = curve
        doses = replace(doses, curves=tuple(kept.values()))
        _save(doses, folder)
    told("done", total, total)
    return doses


def _trials(
    pipeline: Calibrated,
    samples: Sequence[Sample],
    targets: Sequence[DoseTarget],
    settings: CalibrationSettings,
    ask: Callable[[str, Sequence[Question]], list[GivenAnswer]],
    nll: Nll | None,
) -> DoseTrials:
    """Unsteered answers, and the rules of corruption fitted on them."""
    unsteered = ask("unsteered", [Question(sample) for sample in samples])
    words = [*pipeline.atlas.vocabulary, *(target.name for target in targets)]
    rules = CorruptionRules.fit(unsteered, likelihoods(unsteered, nll), words)
    return DoseTrials(
        ask=ask,
        judge=Judge(rules, nll),
        samples=samples,
        unsteered=unsteered,
        n_images=settings.n_images,
        success=settings.success,
        corruption=settings.corruption,
    )


def _how(
    pipeline: Calibrated, samples: Sequence[Sample], settings: CalibrationSettings
) -> dict[str, Any]:
    """What has to be the same in all curves of a file; doses may differ from curve to curve.

    The bars are among it too, but from counts that are there their doses follow without an answer.
    """
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(hashlib.sha256(sample.image).digest())
    return {
        "prompt": DEFAULT_PROMPT,
        "photographs": len(samples),
        "photographs_sha256": digest.hexdigest(),
        "images": settings.n_images,
        "success": settings.success,
        "corruption": settings.corruption,
    }


def _kept(
    before: Doses, how: dict[str, Any], targets: Sequence[DoseTarget], settings: CalibrationSettings
) -> dict[tuple[str | None, int | None, int | None], DoseCurve]:
    """The curves of an earlier run. Raises SparsightError where they were measured otherwise."""
    for key, value in how.items():
        if key not in BARS and before.settings.get(key) != value:
            raise SparsightError(
                f"this model was calibrated with {key} {before.settings.get(key)!r}, now "
                f"{value!r}; curves of one model are measured in one way: use the same, or "
                f"--force to measure anew",
                param=key,
                code="other_calibration",
            )
    found = {
        curve.target: judged(curve, settings.success, settings.corruption)
        for curve in before.curves
    }
    for target in targets:
        curve = found.get(target.key)
        if curve is not None and curve.doses != settings.doses:
            raise SparsightError(
                f"{curve.label} was calibrated at {list(curve.doses)} p99, now "
                f"{list(settings.doses)}; use the same doses, or --force to measure anew",
                param="doses",
                code="other_calibration",
            )
    return found


def _save(doses: Doses, folder: Path) -> None:
    try:
        doses.save(folder)
    except OSError as error:
        raise SparsightError(
            f"cannot write to {folder}: {error.strerror or error}; copy the model's folder to a "
            f"place that you may write to, and calibrate that",
            param="model",
        ) from error
