"""How much an evaluation asks: the sizes of its parts, as plain data."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from sparse_encoder.errors import SparsightError
from vlm.edits import MAX_DOSE
from vlm.steering_evaluation.task_wishes import HowMany


@dataclass(frozen=True)
class Sizes:
    """Numbers of photographs, concepts and draws.

    doses: of the clamp, p99. images: of each cell of the paper's grid, of each kind of composition and
    of side-by-side pictures. The SAE of the baseline: its features and its training steps.
    """

    doses: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
    images: int = 100
    per_set: int | None = None  # at most so many photographs of each set, drawn by seed
    insertion: HowMany = field(default_factory=lambda: HowMany(None, dev=6, test=12))
    suppression: HowMany = field(default_factory=lambda: HowMany(None, dev=12, test=20))
    replacement: HowMany = field(default_factory=lambda: HowMany(None, dev=12, test=20))
    large_ks: bool = True  # also K 8 and K 16
    control_draws: int = 5
    unrelated: int = 60  # wishes whose photograph is asked unrelated questions
    bystanders: int = 20  # photographs that do not say a concept, which is ablated in them
    alphas: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)  # of the difference of means
    sae_ks: tuple[int, ...] = (1, 2, 4)
    sae_features: int = 8192
    sae_steps: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.doses or not all(0 < dose <= MAX_DOSE for dose in self.doses):
            raise SparsightError(
                f"doses={self.doses}: expected one or more above 0, at most {MAX_DOSE:g} p99",
                param="doses",
            )
        for name in ("images", "unrelated", "bystanders", "sae_features", "sae_steps"):
            if getattr(self, name) < 1:
                raise SparsightError(
                    f"{name}={getattr(self, name)}: expected 1 or more", param=name
                )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


FULL = Sizes()
# Every photograph, so that concepts are eligible which a quick run has too few photographs of.
MEDIUM = Sizes(
    doses=(2.0, 4.0, 8.0),
    images=20,
    insertion=HowMany(24, dev=4, test=8),
    suppression=HowMany(24, dev=6, test=12),
    replacement=HowMany(24, dev=4, test=8),
    control_draws=2,
    unrelated=20,
    bystanders=6,
    alphas=(1.0, 2.0),
    sae_ks=(4,),
    sae_features=2048,
    sae_steps=100,
)
# Some two thousand questions. Measured at 0.4 seconds of one core each on a busy machine.
QUICK = replace(
    MEDIUM,
    images=4,
    per_set=60,
    insertion=HowMany(12, dev=2, test=4),
    suppression=HowMany(6, dev=3, test=6),
    replacement=HowMany(6, dev=3, test=5),
    large_ks=False,
    control_draws=1,
    unrelated=4,
    bystanders=2,
)

SizeName = Literal["quick", "medium", "full"]
_SIZES: dict[SizeName, Sizes] = {"quick": QUICK, "medium": MEDIUM, "full": FULL}


def sizes(size: SizeName, **changed: Any) -> Sizes:
    """The sizes of that name with some fields changed; None leaves a field as it is."""
    given = {name: value for name, value in changed.items() if value is not None}
    return replace(_SIZES[size], **given)
