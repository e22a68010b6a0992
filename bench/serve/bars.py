"""What the server has to reach, each with what was measured and whether it is met."""

from dataclasses import dataclass
from typing import Literal

from bench.serve.figures import Ratio


@dataclass(frozen=True)
class Bar:
    """One of them. Met by the measured value itself; `sure` where its whole interval agrees."""

    name: str
    limit: float
    kind: Literal["at least", "at most"]
    measured: float
    low: float
    high: float
    unit: str = ""
    note: str = ""

    @classmethod
    def of_ratio(
        cls, name: str, kind: Literal["at least", "at most"], limit: float, ratio: Ratio,
        note: str = "",
    ) -> "Bar":  # fmt: skip
        return cls(name, limit, kind, ratio.value, ratio.low, ratio.high, "x", note)

    @classmethod
    def of_value(
        cls, name: str, kind: Literal["at least", "at most"], limit: float, value: float,
        unit: str, note: str = "",
    ) -> "Bar":  # fmt: skip
        """Of a count, or of a figure that was taken once."""
        return cls(name, limit, kind, value, value, value, unit, note)

    @property
    def met(self) -> bool:
        return self._passes(self.measured)

    @property
    def sure(self) -> bool:
        """Whether both ends of the interval say the same."""
        return self._passes(self.low) == self._passes(self.high) == self.met

    def _passes(self, value: float) -> bool:
        return value >= self.limit if self.kind == "at least" else value <= self.limit

    def line(self) -> str:
        """``name: bar, measured, met or not met``."""
        interval = "" if self.low == self.high else f" ({self.low:.3g} to {self.high:.3g})"
        verdict = ("met" if self.met else "not met") + (
            "" if self.sure else ", but the interval reaches over the bar"
        )
        note = f" [{self.note}]" if self.note else ""
        return (
            f"{self.name}: bar {self.kind} {self.limit:g}{_unit(self.unit)}, measured "
            f"{self.measured:.3g}{_unit(self.unit)}{interval}, {verdict}{note}"
        )


def _unit(unit: str) -> str:
    return f" {unit}" if unit not in ("", "x") else unit
