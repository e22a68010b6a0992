"""What steering is held to, and whether it got there. Set before results were in; not to be moved."""

from collections.abc import Mapping
from dataclasses import dataclass

from vlm.verdicts import Task

SUCCESS_BARS: Mapping[Task, float] = {"insertion": 0.75, "suppression": 0.85, "replacement": 0.70}
MAX_CORRUPT = 0.02
ABOVE_RANDOM = 0.20  # of the share, in absolute points


@dataclass(frozen=True)
class Bar:
    """One bar; met is None where what it compares with was not measured."""

    name: str
    wanted: str
    found: float | None
    met: bool | None

    def to_json(self) -> dict[str, object]:
        return dict(vars(self))

    def __str__(self) -> str:
        """ "insertion, success: 81 %, wanted at least 75 %: met"."""
        found = "not measured" if self.found is None else f"{100 * self.found:.1f} %"
        verdict = {True: "met", False: "missed", None: "cannot be told"}[self.met]
        return f"{self.name}: {found}, wanted {self.wanted}: {verdict}"


@dataclass(frozen=True)
class Measured:
    """Means over concepts of one task at K <= 4, shares in [0, 1]; None where not measured."""

    success: float | None
    corrupt: float | None
    prompted: float | None = None  # of the better prompt
    random: float | None = None
    # With strengths that were chosen without regard to what else is retained.
    strongest: float | None = None
    strongest_corrupt: float | None = None


def bars(measured: Mapping[Task, Measured]) -> list[Bar]:
    """All bars of all tasks that were measured."""
    out = []
    for task, one in measured.items():
        wanted = SUCCESS_BARS[task]
        out.append(
            Bar(
                f"{task}, success",
                f"at least {100 * wanted:.0f} %",
                one.success,
                _at_least(one.success, wanted),
            )
        )
        out.append(_corrupt(f"{task}, corrupt answers", one.corrupt))
        out.append(_above(task, one.success, one.prompted, 0.0, "the better prompt"))
        out.append(_above(task, one.success, one.random, ABOVE_RANDOM, "random features"))
        if one.strongest is not None:
            name = f"{task} at the strongest"
            met = _at_least(one.strongest, wanted)
            out.append(
                Bar(f"{name}, success", f"at least {100 * wanted:.0f} %", one.strongest, met)
            )
            out.append(_corrupt(f"{name}, corrupt answers", one.strongest_corrupt))
    return out


def _corrupt(name: str, found: float | None) -> Bar:
    met = None if found is None else found <= MAX_CORRUPT
    return Bar(name, f"at most {100 * MAX_CORRUPT:.0f} %", found, met)


def _at_least(found: float | None, wanted: float) -> bool | None:
    return None if found is None else found >= wanted


def _above(task: Task, own: float | None, other: float | None, by: float, what: str) -> Bar:
    """How far above a baseline; above it at all where `by` is 0."""
    margin = None if own is None or other is None else own - other
    wanted = f"at least {100 * by:.0f} points" if by else "more than 0"
    # 0.7 - 0.5 is a little less than 0.2 in floating point.
    met = None if margin is None else (margin >= by - 1e-9 if by else margin > 0)
    return Bar(f"{task}, above {what}", wanted, margin, met)
