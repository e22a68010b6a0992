"""What a calibration found, as JSON and as a text table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sparse_encoder.doses import DoseCurve, Doses
from vlm.rate import Rate


@dataclass(frozen=True)
class DoseSummary:
    """Over some curves: how many have a safe dose, work within it, and are monotone up to it."""

    safe: Rate
    effective: Rate
    monotone: Rate  # of those with a safe dose
    responding: Rate  # of all: some dose up to safe_max does what is asked at least once
    monotone_responding: Rate  # of those: a curve that is 0 throughout is monotone for nothing

    @classmethod
    def of(cls, curves: Sequence[DoseCurve]) -> "DoseSummary":
        with_safe = [curve for curve in curves if curve.safe_max is not None]
        responding = [curve for curve in with_safe if _responds(curve)]
        return cls(
            safe=Rate(len(with_safe), len(curves)),
            effective=Rate.of([curve.effective is not None for curve in curves]),
            monotone=Rate.of([bool(curve.monotone) for curve in with_safe]),
            responding=Rate(len(responding), len(curves)),
            monotone_responding=Rate.of([bool(curve.monotone) for curve in responding]),
        )

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key).to_json() for key in self.__dataclass_fields__}

    def __str__(self) -> str:
        return (
            f"effective dose {self.effective}, safe dose {self.safe}, responding {self.responding}, "
            f"monotone up to safe_max {self.monotone}, of the responding {self.monotone_responding}"
        )


def doses_json(doses: Doses) -> dict[str, Any]:
    """All curves with rates and intervals, and the summaries."""
    return {
        "fingerprint": doses.fingerprint,
        "settings": dict(doses.settings),
        "curves": [curve_json(curve) for curve in doses.curves],
        "concepts": DoseSummary.of(_concepts(doses)).to_json(),
        "features": DoseSummary.of(_features(doses)).to_json(),
    }


def curve_json(curve: DoseCurve) -> dict[str, Any]:
    """One curve with rates and intervals."""
    plain = asdict(curve)
    return {
        **{key: plain[key] for key in ("concept", "k", "feature", "name")},
        "points": [
            {
                "dose": dose,
                "success": Rate(success, curve.n_images).to_json(),
                "corrupt": Rate(corrupt, curve.n_images).to_json(),
            }
            for dose, success, corrupt in _points(curve)
        ],
        **{key: plain[key] for key in ("effective", "safe_max", "monotone")},
    }


def doses_table(doses: Doses) -> str:
    """A line for each curve, then a line for concepts and one for features."""
    settings = doses.settings
    head = (
        f"model {doses.fingerprint[:12]}; at most {settings['images']} photographs a dose; "
        f"effective: success at least {100 * settings['success']:g} %; safe: corruption at most "
        f"{100 * settings['corruption']:g} % by its 95 % interval"
    )
    lines = [head, *(curve_line(curve) for curve in doses.curves)]
    for what, curves in (("concepts", _concepts(doses)), ("features", _features(doses))):
        if curves:
            lines.append(f"{what}: {DoseSummary.of(curves)}")
    return "\n".join(lines)


def curve_line(curve: DoseCurve) -> str:
    """Such as ``cat  effective 2  safe_max 8  of 36 at p99 1: 69 % (53-82), 2: 100 % (90-100)``.

    In brackets the 95 % Wilson interval of success; corrupt answers where there were any, with theirs.
    """
    points = ", ".join(
        f"{dose:g}: {_per_cent(success, curve)}"
        + (f", corrupt {_per_cent(corrupt, curve)}" if corrupt else "")
        for dose, success, corrupt in _points(curve)
    )
    fall = "" if curve.monotone is not False else "; not monotone"
    return (
        f"{curve.label:24}  effective {_dose(curve.effective)}  safe_max {_dose(curve.safe_max)}  "
        f"of {curve.n_images} at p99 {points}{fall}"
    )


def _points(curve: DoseCurve) -> list[tuple[float, int, int]]:
    return list(zip(curve.doses, curve.successes, curve.corrupt, strict=True))


def _responds(curve: DoseCurve) -> bool:
    return any(
        success > 0 and dose <= (curve.safe_max or 0.0) for dose, success, _ in _points(curve)
    )


def _concepts(doses: Doses) -> list[DoseCurve]:
    return [curve for curve in doses.curves if curve.concept is not None]


def _features(doses: Doses) -> list[DoseCurve]:
    return [curve for curve in doses.curves if curve.feature is not None]


def _dose(dose: float | None) -> str:
    return "   -" if dose is None else f"{dose:4g}"


def _per_cent(count: int, curve: DoseCurve) -> str:
    if not curve.n_images:
        return "-"
    low, high = Rate(count, curve.n_images).interval
    return f"{100 * count / curve.n_images:.0f} % ({100 * low:.0f}-{100 * high:.0f})"
