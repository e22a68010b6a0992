"""Time and memory of the contrastive losses, side by side: ``python -m bench.loss``.

Each case (a loss, a batch, a width of the codes) runs in a process of its own, so its peak is its
own. A step is forward and backward, from trunk outputs to the gradients of trunk outputs, heads and
scale. The peak is what a step needs above its inputs; the gradients, which every loss has to write,
are part of it and are shown apart as well. Linux, or any CUDA device.
"""

import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from torch.nn import functional

from bench.open_clip_code import open_clip_module
from bench.process_memory import ProcessMemory
from sparse_encoder.contrastive import similarity_scale, unit
from sparse_encoder.head import SparseHead
from sparse_encoder.pretrain.chunked_loss import chunked_infonce
from sparse_encoder.pretrain.code_chunks import DEFAULT_BUDGET, Blocking
from sparse_encoder.pretrain.rank_gather import exchange

MIB = 2**20
CAP = 50.0  # of the scale, as the paper's large model has it
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    loss: str  # a key of LOSSES
    batch: int
    features: int
    width: int  # of the trunk outputs
    dtype: str
    device: str
    budget: int  # bytes, of the chunked loss
    threads: int  # 0: as torch chooses
    repeats: int


@dataclass(frozen=True)
class Measured:
    seconds: float  # the quickest step
    peak: int  # bytes above the inputs
    gradients: int  # bytes of `peak` that hold the gradients in the end
    loss: float


class Step:
    """Inputs of one case, and the loss of them."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case = case
        device, dtype = torch.device(case.device), DTYPES[case.dtype]
        self.sides = [
            torch.randn(case.batch, case.width, device=device, dtype=dtype).requires_grad_()
            for _ in range(2)
        ]
        # A bias of -1 deviation leaves 16 % of the features active, as at the start of a training.
        self.heads = [
            SparseHead(case.width, case.features, -1.0).to(device, dtype) for _ in range(2)
        ]
        self.log_scale = torch.tensor(3.0, device=device, requires_grad=True)

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.sides, *(p for head in self.heads for p in head.parameters()), self.log_scale]

    def run(self) -> float:
        """One forward and backward pass; the loss."""
        for leaf in self.leaves:
            leaf.grad = None
        loss = LOSSES[self.case.loss](self, similarity_scale(self.log_scale, CAP))
        loss.backward()
        return float(loss.detach())

    def codes(self) -> list[Tensor]:
        return [head(x) for head, x in zip(self.heads, self.sides, strict=True)]


def chunked(step: Step, scale: Tensor) -> Tensor:
    case = step.case
    blocking = Blocking.within(case.budget, case.batch, case.batch, case.features, case.device)
    return chunked_infonce(*step.sides, *step.heads, scale, blocking).loss


def plain(step: Step, scale: Tensor) -> Tensor:
    image, text = (unit(code) for code in step.codes())
    logits = scale * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2


def open_clip(step: Step, scale: Tensor) -> Tensor:
    """Features normalised as open_clip's models do, then its ClipLoss."""
    image, text = (functional.normalize(code, dim=-1) for code in step.codes())
    loss: Tensor = open_clip_module("loss").ClipLoss()(image, text, scale)
    return loss


def memeff(step: Step, scale: Tensor) -> Tensor:
    """Codes in full, then Triton kernels that hold no similarities; its scale is no parameter."""
    from memeff import MemoryEfficientCLIPLoss  # imports Triton, which only a GPU has

    # Not `stable`, which gives gradients another length than the loss has.
    kernel = MemoryEfficientCLIPLoss(temperature=1 / float(scale.detach()), stable=False)
    loss: Tensor = kernel(*step.codes()) + 0 * scale
    return loss


LOSSES: dict[str, Callable[[Step, Tensor], Tensor]] = {
    "chunked": chunked,
    "plain": plain,
    "open_clip": open_clip,
    "memeff": memeff,
}


def measure(case: Case) -> Measured:
    """Runs one case; to be called in a process that has done nothing else."""
    if case.threads:
        torch.set_num_threads(case.threads)
    small = Step(Case(**{**vars(case), "batch": 16, "features": 64}))
    small.run()  # loads kernels and starts threads, whose memory is no part of the loss
    step = Step(case)
    gradients = sum(leaf.numel() * leaf.element_size() for leaf in step.leaves)
    memory = _CudaMemory() if case.device == "cuda" else ProcessMemory()
    seconds = []
    for _ in range(1 + case.repeats):  # the first one warms up
        start = time.perf_counter()
        loss = step.run()
        memory.wait()
        seconds.append(time.perf_counter() - start)
    return Measured(min(seconds[1:]), memory.peak(), gradients, loss)


class _CudaMemory:
    """Bytes that torch has given out above those at the start."""

    def __init__(self) -> None:
        torch.cuda.reset_peak_memory_stats()
        self.start = torch.cuda.memory_allocated()

    def wait(self) -> None:
        torch.cuda.synchronize()

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() - self.start


def needed(case: Case) -> int:
    """Bytes, about, that a case needs above its inputs: what decides whether to try it.

    The plain losses hold each tower's codes and unit codes, and gradients of both in turn: seven
    to eight of B x D in all, measured on a CPU in fp32; and four of B x B.
    """
    size = DTYPES[case.dtype].itemsize
    gradients = 2 * (case.features + case.batch) * case.width * 4
    if case.loss == "chunked":
        return gradients + min(case.budget, 16 * case.batch * (case.batch + 1024))
    similarities = 0 if case.loss == "memeff" else 4 * case.batch**2
    return gradients + size * (8 * case.batch * case.features + similarities)


def available(device: str) -> int:
    """Bytes that a new process may take."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def outcome(case: Case) -> Measured | str:
    """The figures of a case, or why there are none."""
    if case.loss == "memeff" and case.device != "cuda":
        return "memeff is written in Triton and needs a CUDA device"
    if case.loss == "memeff" and importlib.util.find_spec("memeff") is None:
        return "not installed: pip install memeff"
    need, free = needed(case), available(case.device)
    if need > free:
        return f"skipped: needs about {need / MIB:,.0f} MiB, {free / MIB:,.0f} are free"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, case).result()
        except BrokenProcessPool:
            return "its process was killed, by the system's lack of memory as a rule"
        except (RuntimeError, ValueError) as error:  # torch.OutOfMemoryError is one
            return f"failed: {str(error).splitlines()[0]}"


def line(case: Case, found: Measured | str, base: Measured | None) -> str:
    """One line of the table; base: the plain loss of the same case, if it ran."""
    start = f"{case.batch:6,} {case.features:8,}  {case.loss:10}"
    if isinstance(found, str):
        return f"{start} {found}"
    cells = (
        f"{start} {found.seconds:9.3f} {found.peak / MIB:10,.0f} "
        f"{(found.peak - found.gradients) / MIB:12,.0f} {found.loss:9.5f}"
    )
    if base is None or case.loss == "plain":
        return cells
    apart = max(1, found.peak - found.gradients)
    return cells + (
        f"   {found.seconds / base.seconds:5.2f} x time, 1/{base.peak / max(1, found.peak):.1f} of"
        f" the peak, 1/{(base.peak - base.gradients) / apart:.1f} without gradients"
    )


def traffic(ranks: int, batch: int, width: int, features: int, value_bytes: int) -> str:
    """Bytes that a rank receives in a step, and what gathering codes would bring it."""
    ours = exchange(ranks, batch, width, features, value_bytes).total
    # Both towers' codes to every rank, and their gradients back to where they belong.
    codes = 2 * 2 * (ranks - 1) * batch * features * value_bytes
    return (
        f"{ranks:5} {batch * ranks:9,} {features:8,} {ours / MIB:12,.1f} {codes / MIB:16,.1f}"
        f"   1/{codes / ours:.1f}"
    )


@click.command()
@click.option("--batch", "batches", multiple=True, type=int, default=(1024, 2048, 4096))
@click.option(
    "--features",
    "widths",
    multiple=True,
    type=int,
    default=tuple(512 * n for n in (1, 8, 32, 72, 288)),
    help="Of the codes.",
)
@click.option("--width", default=512, show_default=True, help="Of the trunk outputs.")
@click.option(
    "--loss",
    "losses",
    multiple=True,
    type=click.Choice(list(LOSSES)),
    default=("plain", "open_clip", "memeff", "chunked"),
)
@click.option("--repeats", default=3, show_default=True, help="Timed steps; the quickest counts.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float32", show_default=True)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default=lambda: "cuda" if torch.cuda.is_available() else "cpu",
    show_default="cuda where there is one",
)
@click.option(
    "--budget", default=DEFAULT_BUDGET // MIB, show_default=True, help="MiB, of the chunked loss."
)
@click.option("--threads", default=0, help="Default: as torch chooses.")
@click.option("--ranks", multiple=True, type=int, default=(2, 8, 64))
def main(
    batches: tuple[int, ...],
    widths: tuple[int, ...],
    width: int,
    losses: tuple[str, ...],
    repeats: int,
    dtype: str,
    device: str,
    budget: int,
    threads: int,
    ranks: tuple[int, ...],
) -> None:
    """Compares the losses at every --batch and --features."""
    click.echo(f"torch {torch.__version__}, {_hardware(device, threads)}, {dtype}, width {width}")
    click.echo(
        f"{'batch':>6} {'features':>8}  {'loss':10} {'s / step':>9} {'peak MiB':>10} "
        f"{'w/o gradients':>12} {'value':>8}"
    )
    for batch in batches:
        for features in widths:
            base = None
            for loss in sorted(losses, key=lambda name: name != "plain"):
                how: dict[str, Any] = {"device": device, "budget": budget * MIB}
                case = Case(
                    loss, batch, features, width, dtype, threads=threads, repeats=repeats, **how
                )
                found = outcome(case)
                if loss == "plain" and isinstance(found, Measured):
                    base = found
                click.echo(line(case, found, base))
    click.echo(
        f"\n{'ranks':>5} {'all pairs':>9} {'features':>8} {'MiB received':>12} {'by codes':>16}"
    )
    for n in ranks:
        for features in widths:
            click.echo(traffic(n, batches[0], width, features, DTYPES[dtype].itemsize))


def _hardware(device: str, threads: int) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpu = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((text.split(":")[1].strip() for text in cpu if "model name" in text), "CPU")
    return f"{name}, {threads or torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
