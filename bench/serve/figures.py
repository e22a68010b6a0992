"""From rounds to figures: rates, percentiles, and ratios with their interval."""

import math
import os
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.serve.load import Round, statuses

QUANTILES = (0.5, 0.95, 0.99)
DRAWS = 2000  # of the bootstrap


def percentile(values: Sequence[float], q: float) -> float:
    """The value below which a share q lies, between neighbours in proportion; NaN of none."""
    if not values:
        return math.nan
    ranked = sorted(values)
    place = q * (len(ranked) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (place - low) * (ranked[high] - ranked[low])


@dataclass(frozen=True)
class Figures:
    """Of all rounds of one variant. Seconds; a share of 1 is all cores all the time."""

    n_requests: int
    n_failed: int
    requests_s: float
    tokens_s: float
    n_prompt: int  # of the first answer
    first_s: tuple[float, ...]  # p50, p95, p99 of the time to the first token
    between_s: tuple[float, ...]  # of the time between two
    end_s: tuple[float, ...]  # of the time to the whole answer
    cpu_share: float  # of the servers
    cpu_s_per_token: float
    load_share: float  # of the process that sends

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Figures":
        answers = [one for each in rounds for one in each.answers]
        good = [one for one in answers if one.status == 200]
        wall = sum(each.wall_s for each in rounds)
        n_tokens = sum(one.n_tokens for one in good)
        cores = wall * (os.cpu_count() or 1)
        cpu = sum(each.cpu_s for each in rounds)
        gaps = [gap for one in good for gap in one.gaps_s]
        return cls(
            n_requests=len(answers),
            n_failed=len(answers) - len(good),
            requests_s=len(good) / wall,
            tokens_s=n_tokens / wall,
            n_prompt=good[0].n_prompt if good else 0,
            first_s=_three([one.first_s for one in good]),
            between_s=_three(gaps),
            end_s=_three([one.end_s for one in good]),
            cpu_share=cpu / cores,
            cpu_s_per_token=cpu / max(1, n_tokens),
            load_share=sum(each.load_cpu_s for each in rounds) / wall,
        )


def _three(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(percentile(values, q) for q in QUANTILES)


def tokens_per_s(one: Round) -> float:
    """Throughput of a round. Raises RuntimeError where an answer is missing in it."""
    if any(answer.status != 200 for answer in one.answers):
        raise RuntimeError(f"a round has answers of status {statuses(one.answers)}")
    return sum(answer.n_tokens for answer in one.answers) / one.wall_s


def cpu_per_token(one: Round) -> float:
    """CPU seconds of the servers for one token: what other load on the machine changes least."""
    return one.cpu_s / sum(answer.n_tokens for answer in one.answers)


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of paired ratios with a bootstrapped 95 % interval over the pairs."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float], seed: int = 0) -> "Ratio":
        """Of above[i] / below[i]; both of the same turn, side by side on the machine."""
        logs = [math.log(a / b) for a, b in zip(above, below, strict=True)]
        draw = random.Random(seed)
        means = [statistics.fmean(draw.choices(logs, k=len(logs))) for _ in range(DRAWS)]
        return cls(
            math.exp(statistics.fmean(logs)),
            math.exp(percentile(means, 0.025)),
            math.exp(percentile(means, 0.975)),
            len(logs),
        )

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "pairs": self.n}
