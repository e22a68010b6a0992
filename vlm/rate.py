"""Success rates with their uncertainty."""

from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959963984540054  # 97.5th percentile of the standard normal distribution


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion, within [0, 1]; (0, 1) when nothing was tried.

    Unlike the normal approximation it holds for few trials and for rates near 0 and 1. Raises
    ValueError unless 0 <= successes <= trials. Source: Wilson 1927.
    """
    if not 0 <= successes <= trials:
        raise ValueError(
            f"{successes} successes of {trials} trials; expected 0 <= successes <= trials"
        )
    if trials == 0:
        return 0.0, 1.0
    rate, z2 = successes / trials, Z_95**2
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    margin = Z_95 / (1 + z2 / trials) * sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - margin), min(1.0, centre + margin)


@dataclass(frozen=True)
class Rate:
    """Successes among the eligible, always shown together: a rate without its base says little."""

    successes: int
    eligible: int

    def __post_init__(self) -> None:
        wilson_interval(self.successes, self.eligible)

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.successes + other.successes, self.eligible + other.eligible)

    @classmethod
    def of(cls, outcomes: list[bool]) -> "Rate":
        """The share of true outcomes."""
        return cls(sum(outcomes), len(outcomes))

    @property
    def value(self) -> float | None:
        """In [0, 1]; None where nothing was eligible."""
        return self.successes / self.eligible if self.eligible else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval."""
        return wilson_interval(self.successes, self.eligible)

    def to_json(self) -> dict[str, object]:
        return {
            "rate": self.value,
            "successes": self.successes,
            "eligible": self.eligible,
            "wilson_95": list(self.interval),
        }

    def __str__(self) -> str:
        """ "62 % (31/50, 48-74)" in per cent; "- (0/0)" where nothing was eligible."""
        if self.value is None:
            return "- (0/0)"
        low, high = self.interval
        return (
            f"{100 * self.value:.0f} % ({self.successes}/{self.eligible}, "
            f"{100 * low:.0f}-{100 * high:.0f})"
        )
