"""The projector's first layer on active features, beside the dense product: ``python -m bench.projector``.

Random codes of ten photographs, 82 rows each. Three ways: **sparse** (bags of the active features'
rows), **filled** (blocks of features filled in and multiplied, which the layer takes above its
crossing), and **dense**, a product of the whole matrix rows x features, which is given and costs
nothing to make. Each runs forward and backward to the weight. Times are the processor's, since the clock
also counts what else runs on the machine; the fastest of some rounds, the ways in turn. Memory is the peak of the process above where it stood before
(Linux): beyond codes, weight and the weight's gradient, which all ways hold, but with the dense matrix.
"""

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from vlm.sparse_linear import DENSE_FROM, sparse_linear

DENSITIES = (0.002, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
FEATURES = (4096, 55_296)
WAYS = ("sparse", "filled", "dense")


@dataclass(frozen=True)
class Cost:
    """One way at one size and density; forward and backward apart."""

    gflop: tuple[float, float]
    ms: tuple[float, float]  # of the processor
    peak_mb: float | None  # None where the system does not tell


@click.command()
@click.option("--features", multiple=True, type=int, default=FEATURES, show_default=True)
@click.option("--density", multiple=True, type=click.FloatRange(0, 1), default=DENSITIES)
@click.option("--rows", default=820, show_default=True, help="Of codes: 82 a photograph.")
@click.option("--hidden", default=576, show_default=True, help="Width of the language model.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
def main(
    features: tuple[int, ...], density: tuple[float, ...], rows: int, hidden: int, rounds: int
) -> None:
    """Prints a table a size, and where sparse and filled blocks take the same time."""
    torch.set_num_threads(1)
    for n_features in features:
        click.echo(f"{n_features:,} features, {rows} rows, hidden {hidden}, one thread")
        click.echo(
            "density | GFLOP sparse, dense | forward ms sparse, filled, dense | "
            "backward ms sparse, filled, dense | peak MB sparse, filled, dense"
        )
        found = []
        for share in density:
            costs = measure(n_features, share, rows, hidden, rounds)
            found.append((share, sum(costs["sparse"].ms), sum(costs["filled"].ms)))
            click.echo(line(share, costs))
        click.echo(crossing_line(found))


def measure(
    n_features: int, density: float, rows: int, hidden: int, rounds: int
) -> dict[str, Cost]:
    """The costs of each way on the same random codes, weight and gradient."""
    random = torch.Generator().manual_seed(0)
    codes = random_codes(n_features, density, rows, random)
    weight = (torch.randn(n_features, hidden, generator=random) * 0.02).requires_grad_()
    gradient = torch.randn(rows, hidden, generator=random)
    matrix = codes.dense()
    ways: dict[str, Callable[[], Tensor]] = {
        "sparse": lambda: _layer(codes, weight, dense=False),
        "filled": lambda: _layer(codes, weight, dense=True),
        "dense": lambda: matrix @ weight,
    }
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            times[way].append(_once(ways[way], weight, gradient))
    peaks = {way: _peak_mb(lambda way=way: _once(ways[way], weight, gradient)) for way in WAYS}
    matrix_mb = matrix.numel() * matrix.element_size() / 1e6
    products = {"sparse": len(codes.value) / 1e9, "filled": matrix.numel() / 1e9}
    products["dense"] = products["filled"]
    return {
        way: Cost(
            gflop=(2 * products[way] * hidden, 2 * products[way] * hidden),
            ms=(1e3 * min(f for f, _ in times[way]), 1e3 * min(b for _, b in times[way])),
            peak_mb=_with(peaks[way], matrix_mb if way == "dense" else 0.0),
        )
        for way in WAYS
    }


def random_codes(n_features: int, density: float, rows: int, random: torch.Generator) -> Codes:
    """Codes of so many rows; each feature active with this probability, uniform in (0, 1]."""
    parts = []
    for _ in range(rows):
        active = (torch.rand(n_features, generator=random) < density).nonzero().flatten()
        value = 1 - torch.rand(len(active), generator=random)
        parts.append(Codes(active, value, torch.tensor([0, len(active)]), n_features))
    return Codes.cat(parts)


def line(density: float, costs: dict[str, Cost]) -> str:
    """One line of the table; FLOPs are of forward and backward together."""
    flops = ", ".join(f"{sum(costs[way].gflop):.2f}" for way in ("sparse", "dense"))
    forward, backward = (", ".join(f"{costs[way].ms[i]:.0f}" for way in WAYS) for i in (0, 1))
    peaks = ", ".join(
        "?" if (peak := costs[way].peak_mb) is None else f"{peak:.0f}" for way in WAYS
    )
    return f"{100 * density:g} % | {flops} | {forward} | {backward} | {peaks}"


def crossing_line(found: Sequence[tuple[float, float, float]]) -> str:
    """Where sparse, forward and backward together, becomes slower than filled blocks."""
    at = crossing(found)
    where = "not within these densities" if at is None else f"at a density of {100 * at:.0f} %"
    return f"sparse and filled take the same time {where}; the layer switches at {DENSE_FROM:.0%}"


def crossing(found: Sequence[tuple[float, float, float]]) -> float | None:
    """The density at which two times cross, on straight lines between (density, time, time)."""
    for (low, a, b), (high, c, d) in pairwise(found):
        if a <= b and c > d:
            return low + (high - low) * (b - a) / ((b - a) + (c - d))
    return None


def _layer(codes: Codes, weight: Tensor, *, dense: bool) -> Tensor:
    return sparse_linear(codes.index, codes.value, codes.offset, weight, dense=dense)


def _once(forward: Callable[[], Tensor], weight: Tensor, gradient: Tensor) -> tuple[float, float]:
    """Seconds of the processor, forward and backward."""
    weight.grad = None
    start = time.process_time()
    out = forward()
    middle = time.process_time()
    out.backward(gradient)
    return middle - start, time.process_time() - middle


def _peak_mb(run: Callable[[], object]) -> float | None:
    """How far the process's memory rises above where it stood, MB."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before is used again, unseen
        Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
        before = _status("VmRSS")
        run()
        return max(0.0, _status("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _status(key: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{key}:")[2].split()[0]) * 1024 / 1e6


def _with(peak: float | None, more: float) -> float | None:
    return None if peak is None else peak + more


if __name__ == "__main__":
    main()
