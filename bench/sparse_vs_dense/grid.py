"""What is run: one recipe for all heads, and the settings in which the cases differ."""

from dataclasses import dataclass, field
from typing import Any

from sparse_encoder.encoder_run import EncoderRun, encoder_run

# Sparse CLIP's recipe and no more: no teacher, no aim for the density, no bias to start sparse
# from. A short run has no time for the scale to climb to its cap as a long one does, so it starts
# there; it may fall.
RECIPE: dict[str, Any] = {
    "bias": 0.0,
    "teacher": 0.0,
    "density": 1.0,
    "windows": 1,
    "epochs": 2.0,
    "batch": 256,
    "lr": 3e-3,
    "cap": 50.0,
    "scale_start": 1000.0,
}
WIDTHS = (512, 1024, 2048, 4096, 8192, 16384)
NARROW = WIDTHS[0]  # CLIP's own embedding width in the paper's ablations
TABLE_WIDTH = 4096  # of all sparse and widened rows of the baselines' table, 8x
CAPS = (10.0, 20.0, 40.0, 50.0, 70.0, 100.0)
BIASES = (
    0.0,
    -0.5,
    -1.0,
    -1.5,
    -2.0,
    -3.0,
)  # a lower start leaves fewer features active at the end
TOPK = (64, 256, 512)  # the paper's comparison has 512 of 16,384
L1 = (0.01, 0.03, 0.1)
TABLE_TOPK, TABLE_L1, TABLE_BIAS = 256, 0.03, -1.5
SAES: dict[str, dict[str, Any]] = {
    "relu_l1": {"l1": 1.0, "lr": 3e-3},
    "topk": {"k": 64, "lr": 3e-3},
    "matryoshka_batch_topk": {"k": 64, "lr": 3e-3},
}
SPLICE_WORDS = 10_000  # most frequent words of the word list, as the authors take
SPLICE_L1 = 0.15  # of 0.1, 0.15 and 0.2 the one that leaves 5 to 20 words, as the authors aim at


@dataclass(frozen=True)
class Case:
    """One line of a table. `settings` changes an `EncoderRun`, or an `SaeConfig`."""

    name: str
    method: str  # "heads", "sae" or "splice"
    settings: dict[str, Any] = field(default_factory=dict)


def relu(width: int, cap: float = RECIPE["cap"]) -> Case:
    """ReLU heads; those at the recipe's own cap share one case between the observations."""
    own = cap == RECIPE["cap"]
    name = f"relu-{width}" if own else f"relu-{width}-cap-{cap:g}"
    return Case(name, "heads", {"features": width} if own else {"features": width, "cap": cap})


def relu_from(bias: float) -> Case:
    """ReLU heads of the table's width whose features start with another bias."""
    if bias == RECIPE["bias"]:
        return relu(TABLE_WIDTH)
    settings = {"features": TABLE_WIDTH, "bias": bias}
    return Case(f"relu-{TABLE_WIDTH}-bias{bias:g}", "heads", settings)


def dense(width: int) -> Case:
    return Case(f"dense-{width}", "heads", {"features": width, "activation": "identity"})


def topk(k: int) -> Case:
    settings = {"features": TABLE_WIDTH, "activation": "topk", "k": k}
    return Case(f"topk-{k}", "heads", settings)


def l1(weight: float) -> Case:
    return Case(f"l1-{weight:g}", "heads", {"features": TABLE_WIDTH, "l1": weight})


# Its hidden widths follow from the trunks' widths, which are known once the inputs are read.
DENSE_SAME_SIZE = Case("dense-hidden", "heads", {"features": NARROW, "activation": "identity"})


def sae(kind: str) -> Case:
    return Case(f"sae-{kind.replace('_', '-')}", "sae", {"kind": kind, **SAES[kind]})


SPLICE = Case("splice", "splice")


def baselines() -> dict[str, Case]:
    """Rows of the baselines' table, in order: what it is, and its case."""
    return {
        "dense CLIP": dense(NARROW),
        "dense, hidden layer, parameters of the sparse one": DENSE_SAME_SIZE,
        "ReLU without widening": relu(NARROW),
        "widening without ReLU": dense(TABLE_WIDTH),
        "**sparse (ReLU and widening)**": relu(TABLE_WIDTH),
        f"sparse, from a bias of {TABLE_BIAS:g}": relu_from(TABLE_BIAS),
        f"TopK, k = {TABLE_TOPK}": topk(TABLE_TOPK),
        f"L1, weight {TABLE_L1:g}": l1(TABLE_L1),
        "SAE ReLU-L1 on dense": sae("relu_l1"),
        "SAE TopK on dense": sae("topk"),
        "SAE Matryoshka BatchTopK on dense": sae("matryoshka_batch_topk"),
        "SpLiCE on dense": SPLICE,
    }


def all_cases() -> list[Case]:
    """Every case once; the dense one before those that are made from it."""
    cases = [
        *(make(width) for width in WIDTHS for make in (dense, relu)),
        *(relu(TABLE_WIDTH, cap) for cap in CAPS),
        *(relu_from(bias) for bias in BIASES),
        *(topk(k) for k in TOPK),
        *(l1(weight) for weight in L1),
        *baselines().values(),
    ]
    return list({case.name: case for case in cases}.values())


def head_run(case: Case, seed: int, recipe: dict[str, Any]) -> EncoderRun:
    return encoder_run("mini", {**recipe, **case.settings, "seed": seed})
