"""Whether an observation held, by rules that were fixed before the runs.

A case's figures are those of its seeds. One case is **above** another where its lowest seed is
above the other's highest; with three seeds each, chance alone does that once in 20 times. Where
seeds overlap there is no difference. Accuracy is top-1 over all labelled held-out photographs
together, zero-shot, as the paper judges by zero-shot ImageNet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

Seeds = Sequence[float]  # one figure a seed


@dataclass(frozen=True)
class Claim:
    """One part of an observation. `held` is None where the runs cannot say."""

    says: str
    held: bool | None
    because: str


@dataclass(frozen=True)
class Verdict:
    observation: str
    claims: list[Claim]

    @property
    def held(self) -> bool | None:
        """All parts held; None where none is refuted but some cannot be said."""
        parts = [claim.held for claim in self.claims]
        if False in parts:
            return False
        return None if None in parts else True

    @property
    def word(self) -> str:
        if self.held is None:
            return "cannot be said"
        if self.held:
            return "held"
        n = sum(claim.held is True for claim in self.claims)
        return f"held in {n} of {len(self.claims)} parts" if n else "did not hold"


@dataclass(frozen=True)
class Frontier:
    """Accuracy and L0 of one way to sparsity, from its loosest to its tightest setting."""

    accuracy: Mapping[str, Seeds]  # by setting
    l0: Mapping[str, Seeds]


def above(one: Seeds, other: Seeds) -> bool:
    return min(one) > max(other)


def width_and_relu(
    relu: Mapping[int, Seeds],
    dense: Mapping[int, Seeds],
    relu_l0: Mapping[int, Seeds],
) -> Verdict:
    """Observation 1 (Figure 2a), from accuracies by width and the ReLU codes' L0 by width."""
    narrow, wide = min(relu), max(relu)
    density = [mean(relu_l0[w]) / w for w in sorted(relu_l0)]
    growth = mean(relu_l0[wide]) / mean(relu_l0[narrow])
    return Verdict(
        "width and ReLU belong together",
        [
            Claim(
                "with ReLU, accuracy grows with width",
                above(relu[wide], relu[narrow]),
                f"{_share(relu[narrow])} at {narrow:,}, {_share(relu[wide])} at {wide:,}",
            ),
            Claim(
                "without ReLU, width gives nothing",
                not above(dense[wide], dense[narrow]),
                f"{_share(dense[narrow])} at {narrow:,}, {_share(dense[wide])} at {wide:,}",
            ),
            Claim(
                "ReLU without width loses accuracy",
                above(dense[narrow], relu[narrow]),
                f"at {narrow:,}: {_share(relu[narrow])} with, {_share(dense[narrow])} without",
            ),
            Claim(
                "active features level off, so that density falls at every step of width",
                all(b < a for a, b in zip(density, density[1:], strict=False)),
                f"{wide // narrow} times the width, {growth:.1f} times the active features: "
                f"density {100 * density[0]:.1f} to {100 * density[-1]:.1f} %",
            ),
        ],
    )


def relu_against(rivals: Mapping[str, Frontier], relu: Frontier) -> Verdict:
    """Observation 2 (Figure 2b), at equal L0.

    The ReLU codes' L0 is set by the bias that features start with. For each setting of a rival,
    ReLU's accuracy at the rival's mean L0 is read off between the two nearest of its own, seed by
    seed. The claim holds where ReLU is above the rival at more settings than below. Settings
    outside of ReLU's range of L0 are not compared.
    """
    return Verdict(
        "ReLU beats L1 and TopK at equal L0",
        [_rival(name, rival, relu) for name, rival in rivals.items()],
    )


def cap_sets_sparsity(accuracy: Mapping[float, Seeds], l0: Mapping[float, Seeds]) -> Verdict:
    """Observation 3 (Figure 2c), from accuracy and L0 by cap; 20, 40 and 50 among the caps."""
    caps = sorted(l0)
    means = [mean(l0[cap]) for cap in caps]
    return Verdict(
        "the cap on the logit scale sets sparsity",
        [
            Claim(
                "the lower the cap, the lower L0, at every step",
                all(a < b for a, b in zip(means, means[1:], strict=False)),
                ", ".join(f"{cap:g}: {m:.0f}" for cap, m in zip(caps, means, strict=True)),
            ),
            Claim(
                "40 is as accurate as 50",
                not above(accuracy[50.0], accuracy[40.0]),
                f"{_share(accuracy[40.0])} at 40, {_share(accuracy[50.0])} at 50",
            ),
            Claim(
                "20 is less accurate than 50",
                above(accuracy[50.0], accuracy[20.0]),
                f"{_share(accuracy[20.0])} at 20, {_share(accuracy[50.0])} at 50",
            ),
        ],
    )


def at_equal_l0(relu: Frontier, l0: float) -> list[float] | None:
    """ReLU's accuracy of each seed at `l0`, linear in log L0; None outside of its settings' L0."""
    settings = sorted(relu.l0, key=lambda s: mean(relu.l0[s]))
    known = np.log([mean(relu.l0[s]) for s in settings])
    if not known[0] <= np.log(l0) <= known[-1]:
        return None
    seeds = zip(*(relu.accuracy[s] for s in settings), strict=True)
    return [float(np.interp(np.log(l0), known, seed)) for seed in seeds]


def _rival(name: str, rival: Frontier, relu: Frontier) -> Claim:
    better = worse = 0
    notes = []
    for setting, accuracy in rival.accuracy.items():
        l0 = mean(rival.l0[setting])
        ours = at_equal_l0(relu, l0)
        if ours is None:
            notes.append(f"{setting}: L0 {l0:.0f}, outside of ReLU's range")
            continue
        better += above(ours, accuracy)
        worse += above(accuracy, ours)
        notes.append(f"{setting}: L0 {l0:.0f}, {_share(accuracy)} against {_share(ours)}")
    compared = any("against" in note for note in notes)
    return Claim(f"ReLU beats {name}", better > worse if compared else None, "; ".join(notes))


def _share(values: Seeds) -> str:
    """Per cent: mean (lowest to highest seed)."""
    shares = [100 * v for v in values]
    return f"{mean(shares):.1f} ({min(shares):.1f}-{max(shares):.1f}) %"
