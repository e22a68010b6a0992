"""What a dose-response curve says: the dose that works, and the largest that does no harm.

All answers are greedy captions of photographs whose unsteered caption lacks the name (insertion,
PAPER.md 2.3); a dose counts in p99, intervals are 95 % Wilson intervals.

- **safe_max**: the largest dose at which, as at every smaller one, the whole interval of corruption
  lies within the bar. By the upper end, since *safe* has to be shown and few photographs show
  little: with the bar at 15 %, one answer of 36 may be corrupt; 10 % would allow none, and the
  rules of corruption have false alarms. A lower bar wants more photographs, not a kinder reading.
- **effective**: the smallest dose, up to safe_max, whose success reaches what is asked (75 %, the
  aim of an insertion). By the observed rate: the interval's lower end would ask for more than 9 of 10.
- **monotone**: up to safe_max, no dose succeeds less often than the lower end of the interval of any
  smaller dose. A fall within that interval may be chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparse_encoder.doses import DoseCurve
from vlm.rate import Rate

SUCCESS_ASKED = 0.75
CORRUPTION_BAR = 0.15


@dataclass(frozen=True)
class DosePoint:
    """One dose: how often it did what was asked, and how often it broke the answer."""

    dose: float  # p99
    success: Rate
    corrupt: Rate


def safe_max(points: Sequence[DosePoint], bar: float = CORRUPTION_BAR) -> float | None:
    """The largest safe dose of a curve in order of dose; None where not even the first is safe."""
    safe = None
    for point in points:
        if not point.corrupt.eligible or point.corrupt.interval[1] > bar:
            break
        safe = point.dose
    return safe


def effective(
    points: Sequence[DosePoint], up_to: float | None, asked: float = SUCCESS_ASKED
) -> float | None:
    """The smallest dose up to `up_to` with the success asked; None where there is none."""
    reaching = (p.dose for p in _within(points, up_to) if (p.success.value or 0.0) >= asked)
    return next(reaching, None)


def is_monotone(points: Sequence[DosePoint], up_to: float | None) -> bool | None:
    """Whether success falls nowhere up to `up_to` by more than chance; None without a dose."""
    within = _within(points, up_to)
    if not within:
        return None
    rates = [(point.success.value or 0.0, point.success.interval[0]) for point in within]
    return all(
        # The rate itself, too: of 0 successes the interval's end is 0 but for a rounding error.
        later >= min(low, rate)
        for i, (later, _) in enumerate(rates)
        for rate, low in rates[:i]
    )


def judged(
    curve: DoseCurve, asked: float = SUCCESS_ASKED, bar: float = CORRUPTION_BAR
) -> DoseCurve:
    """The curve with what follows from its counts; both bars in (0, 1)."""
    points = [
        DosePoint(dose, Rate(success, curve.n_images), Rate(corrupt, curve.n_images))
        for dose, success, corrupt in zip(curve.doses, curve.successes, curve.corrupt, strict=True)
    ]
    safe = safe_max(points, bar)
    return replace(
        curve,
        safe_max=safe,
        effective=effective(points, safe, asked),
        monotone=is_monotone(points, safe),
    )


def _within(points: Sequence[DosePoint], up_to: float | None) -> list[DosePoint]:
    return [] if up_to is None else [point for point in points if point.dose <= up_to]
