"""The figures as markdown, which is what is printed, too."""

from collections.abc import Callable, Sequence
from statistics import mean
from typing import TypeVar

from bench.sparse_vs_dense.grid import (
    BIASES,
    CAPS,
    L1,
    TABLE_WIDTH,
    TOPK,
    WIDTHS,
    Case,
    baselines,
    dense,
    l1,
    relu,
    relu_from,
    topk,
)
from bench.sparse_vs_dense.verdicts import (
    Frontier,
    Verdict,
    cap_sets_sparsity,
    relu_against,
    width_and_relu,
)

Setting = TypeVar("Setting")
Runs = dict[str, list[dict[str, float]]]  # figures of each seed by a case's name

_PER_CENT = ("zeroshot", "caltech101", "catsdogs", "grocery", "imagenet", "density")
_COLUMNS = {  # of the baselines' table: heading, key
    "t2i R@1": "t2i@1",
    "R@5": "t2i@5",
    "R@10": "t2i@10",
    "i2t R@1": "i2t@1",
    "R@5 ": "i2t@5",
    "R@10 ": "i2t@10",
    "all sets": "zeroshot",
    "Caltech-101": "caltech101",
    "cats, dogs": "catsdogs",
    "groceries": "grocery",
    "ImageNet": "imagenet",
    "L0": "l0",
    "density": "density",
    "features": "features",
    "dead": "dead",
    "Clarity lift": "clarity_lift",
    "MonoSem.": "monosemanticity",
    "parameters, M": "parameters",
}
_OF_CODES = ("l0", "density", "features", "dead", "clarity_lift", "monosemanticity", "parameters")


def verdicts(runs: Runs) -> list[Verdict]:
    """Of the paper's three observations."""
    wide = {width: relu(width) for width in WIDTHS}
    caps = {cap: relu(TABLE_WIDTH, cap) for cap in CAPS}
    rivals = {
        "L1": _frontier(runs, {f"weight {weight:g}": l1(weight) for weight in L1}),
        "TopK": _frontier(runs, {f"k = {k}": topk(k) for k in TOPK}),
    }
    plain = {width: dense(width) for width in WIDTHS}
    return [
        width_and_relu(
            _curve(runs, wide, "zeroshot"),
            _curve(runs, plain, "zeroshot"),
            _curve(runs, wide, "l0"),
        ),
        relu_against(rivals, _frontier(runs, {f"bias {b:g}": relu_from(b) for b in BIASES})),
        cap_sets_sparsity(_curve(runs, caps, "zeroshot"), _curve(runs, caps, "l0")),
    ]


def observations(runs: Runs) -> str:
    """The curves behind the three observations."""
    columns = {"zero-shot top-1": "zeroshot", "t2i R@1": "t2i@1", "L0": "l0", "dead": "dead"}
    rows: list[tuple[str, Case]] = []
    for name, make in (("ReLU", relu), ("no ReLU", dense)):
        rows += [(f"{width:,} features, {name}", make(width)) for width in WIDTHS]
    rows += [(f"{TABLE_WIDTH:,}, ReLU, cap {cap:g}", relu(TABLE_WIDTH, cap)) for cap in CAPS]
    rows += [(f"{TABLE_WIDTH:,}, ReLU, from bias {b:g}", relu_from(b)) for b in BIASES]
    rows += [(f"{TABLE_WIDTH:,}, TopK, k = {k}", topk(k)) for k in TOPK]
    rows += [(f"{TABLE_WIDTH:,}, ReLU and L1, weight {w:g}", l1(w)) for w in L1]
    body = [
        [title, *(_range(_values(runs, case, key), key) for key in columns.values())]
        for title, case in rows
    ]
    return _markdown(["heads", *columns], body)


def baseline_table(runs: Runs) -> str:
    """All baselines; post-hoc SAEs by their sparse codes and by what they decode to."""
    body = []
    for title, case in baselines().items():
        body.append([title, *(_cell(runs, case, key) for key in _COLUMNS.values())])
        if case.method == "sae":
            cells = [
                "as above" if key in _OF_CODES else _cell(runs, case, f"decoded {key}")
                for key in _COLUMNS.values()
            ]
            body.append([f"{title}, decoded", *cells])
    return _markdown(["", *_COLUMNS], body)


def verdict_lines(found: Sequence[Verdict]) -> str:
    lines = []
    for n, verdict in enumerate(found, 1):
        lines += [f"**{n}. {verdict.observation}: {verdict.word}.**", ""]
        for claim in verdict.claims:
            word = {True: "Held", False: "Did not hold", None: "Cannot be said"}[claim.held]
            lines.append(f"- {word}: {claim.says}. {claim.because}.")
        lines.append("")
    return "\n".join(lines).rstrip()


def _curve(runs: Runs, cases: dict[Setting, Case], key: str) -> dict[Setting, list[float]]:
    return {setting: _values(runs, case, key) for setting, case in cases.items()}


def _frontier(runs: Runs, cases: dict[str, Case]) -> Frontier:
    return Frontier(_curve(runs, cases, "zeroshot"), _curve(runs, cases, "l0"))


def _values(runs: Runs, case: Case, key: str) -> list[float]:
    return [run[key] for run in runs[case.name] if key in run]


def _cell(runs: Runs, case: Case, key: str) -> str:
    """Mean and half of the range over seeds."""
    values = _values(runs, case, key)
    if not values:
        return "-"
    if key == "parameters":
        return f"{values[0] / 1e6:.2f}"
    if key == "features":
        return f"{values[0]:,.0f}"
    show = _format(key)
    return f"{show(mean(values))} ± {show((max(values) - min(values)) / 2)}"


def _range(values: list[float], key: str) -> str:
    show = _format(key)
    return f"{show(mean(values))} ({show(min(values))}-{show(max(values))})"


def _format(key: str) -> Callable[[float], str]:
    plain = key.removeprefix("decoded ")
    if plain in _PER_CENT or "@" in plain:
        return lambda value: f"{100 * value:.1f}"
    if plain in ("l0", "dead"):
        return lambda value: f"{value:.0f}"
    return lambda value: f"{value:.3f}"


def _markdown(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
