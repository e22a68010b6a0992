"""Speed and memory of the atlas build at growing sizes: ``python -m bench.atlas``.

Two parts of the build grow with its inputs: naming (words x features) and the pass over the images
(images x features). Each is run as the build runs it, in blocks with a running top-k, and beside it
as the plain product with one top-k over all, where that fits into memory. Vectors and heads are
random, since sizes alone matter here; what the text tower takes is left out. Every case has a
process of its own, so its peak is its own. Linux only.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import click
import numpy as np
import torch
from torch import Tensor

from bench.loss import MIB, available
from bench.process_memory import ProcessMemory
from sparse_encoder.atlas import TEMPLATES, concept_codes
from sparse_encoder.codes import Codes
from sparse_encoder.contrastive import unit
from sparse_encoder.features.columns import read_columns
from sparse_encoder.features.measures import measure_images
from sparse_encoder.features.shard_codes import ShardCodes
from sparse_encoder.features.state import BuildState
from sparse_encoder.features.text_words import WORD_BLOCK, lifts, rank_words

WIDTH = 384  # of the text trunk and of the judge's embedding
BIAS = -1.0  # deviations: 16 % of the features active on a word
N_ACTIVE = 64  # features of an image
SHARD = 2_048  # images
N_COLUMNS = 4_096  # images whose codes the pass keeps to choose names on
K_WORDS, K_IMAGES = 12, 16  # as AtlasSettings has them
WORDS = ((4_096, 8_192), (98_619, 8_192), (4_096, 55_296), (16_384, 55_296))
LARGEST = (98_619, 55_296)
IMAGES = ((4_096, 8_192), (32_768, 8_192), (2_048, 55_296), (8_192, 55_296))
QUICK_WORDS, QUICK_IMAGES = ((512, 1_024), (4_096, 1_024)), ((2_048, 1_024), (8_192, 1_024))


@dataclass(frozen=True)
class Case:
    what: str  # "words" or "images"
    rows: int  # so many of them
    features: int
    is_plain: bool


@dataclass(frozen=True)
class Measured:
    seconds: float  # of processor time, on one thread: others' work on the machine does not count
    peak: int  # bytes above the process before the case
    index: np.ndarray  # (features, k): the best rows of every feature, -1 where there are fewer


class WordCodes:
    """Codes of made-up words by their number, the same in whatever blocks they are asked for.

    Vectors are sines of the number at random rates, so that none has to be held.
    """

    def __init__(self, features: int) -> None:
        random = torch.Generator().manual_seed(0)
        self._rate = 1 + 1000 * torch.rand(WIDTH, generator=random, dtype=torch.float64)
        self._weight = torch.randn(WIDTH, features, generator=random) / (WIDTH / 2) ** 0.5

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> Tensor:
        number = torch.tensor([_number(text) for text in texts], dtype=torch.float64)
        return (BIAS + torch.sin(number[:, None] * self._rate).float() @ self._weight).relu_()


def _number(text: str) -> int:
    """Of a word in one of the templates: another number in each."""
    digits = "".join(filter(str.isdigit, text))
    return len(TEMPLATES) * int(digits) + (not text.isdigit())


class FakeShards:
    """Shards of made-up codes, each made when it is read, as a build's are read from disk."""

    def __init__(self, images: int, features: int) -> None:
        self.images, self.features = images, features

    def __iter__(self) -> Iterator[ShardCodes]:
        for start in range(0, self.images, SHARD):
            yield self._shard(start, min(SHARD, self.images - start))

    def _shard(self, start: int, n: int) -> ShardCodes:
        random = np.random.default_rng(start)
        index = np.sort(random.integers(0, self.features // N_ACTIVE, (n, N_ACTIVE)), axis=1)
        index += np.arange(N_ACTIVE) * (self.features // N_ACTIVE)  # apart, and in order
        embedding = unit(torch.from_numpy(random.standard_normal((n, WIDTH), np.float32)))
        codes = Codes(
            torch.from_numpy(index.reshape(-1)),
            torch.from_numpy(random.random(n * N_ACTIVE, np.float32) + 0.01),
            torch.arange(0, n * N_ACTIVE + 1, N_ACTIVE),
            self.features,
        )
        keys = [f"p{start + i}" for i in range(n)]
        return ShardCodes(codes, embedding.half().numpy(), keys, [["a dog"]] * n)


def blocked_words(case: Case) -> np.ndarray:
    with TemporaryDirectory() as folder:
        words = [str(i) for i in range(case.rows)]
        state = BuildState(Path(folder), "0" * 64)
        found = rank_words(words, WordCodes(case.features), case.features, K_WORDS, state)
    return np.asarray(found["index"])


def plain_words(case: Case) -> np.ndarray:
    """All codes side by side, all lifts, one top-k."""
    encode, codes = WordCodes(case.features), torch.empty(case.rows, case.features)
    for start in range(0, case.rows, WORD_BLOCK):  # not the prompts' codes too: those come and go
        words = [str(i) for i in range(start, min(start + WORD_BLOCK, case.rows))]
        codes[start : start + len(words)] = concept_codes(words, encode)
    return np.asarray(lifts(codes).topk(K_WORDS, dim=0).indices.T.numpy())


def blocked_images(case: Case) -> np.ndarray:
    shards = FakeShards(case.rows, case.features)
    seen = measure_images(shards, case.features, K_IMAGES)
    read_columns(shards, case.features, False, N_COLUMNS)
    return np.asarray(seen["top_image"])


def plain_images(case: Case) -> np.ndarray:
    """All codes dense: counts, percentiles and the top images of each feature of them at once."""
    codes = torch.cat([s.codes.dense() for s in FakeShards(case.rows, case.features)])
    active = codes > 0
    (active.float().mean(0), codes.sum(0) / active.sum(0).clamp(min=1), codes.amax(0))
    best = codes.topk(K_IMAGES, dim=0)
    return np.asarray(torch.where(best.values > 0, best.indices, -1).T.numpy())


RUN: dict[tuple[str, bool], Callable[[Case], np.ndarray]] = {
    ("words", False): blocked_words,
    ("words", True): plain_words,
    ("images", False): blocked_images,
    ("images", True): plain_images,
}


def measure(case: Case) -> Measured:
    """Runs one case; to be called in a process that has done nothing else."""
    torch.set_num_threads(1)
    run = RUN[case.what, case.is_plain]
    run(Case(case.what, 64, 128, case.is_plain))  # loads kernels, whose memory is no part of it
    memory, start = ProcessMemory(), process_time()
    index = run(case)
    return Measured(process_time() - start, memory.peak(), index)


def outcome(case: Case) -> Measured | str:
    """The figures of a case, or why there are none."""
    need = 3 * 4 * case.rows * case.features  # codes, their lifts or signs, and the top-k's copy
    if case.is_plain and need > available("cpu") / 2:
        return f"would need about {need / MIB:,.0f} MiB"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, case).result()
        except BrokenProcessPool:
            return "its process was killed, by the system's lack of memory as a rule"


def line(case: Case, ours: Measured, plain: Measured | str) -> str:
    """One line of the table."""
    pairs = case.rows * case.features
    start = (
        f"{case.rows:8,} {case.features:8,} {ours.seconds:8.1f} {pairs / ours.seconds / 1e6:10.1f}"
        f" {ours.peak / MIB:9,.0f}   "
    )
    if isinstance(plain, str):
        return f"{start}{plain}"
    same = (np.sort(ours.index, axis=1) == np.sort(plain.index, axis=1)).mean()
    return (
        f"{start}{plain.seconds:8.1f} {pairs / plain.seconds / 1e6:10.1f} {plain.peak / MIB:9,.0f}"
        f"   {ours.seconds / plain.seconds:5.2f} x time, {ours.peak / plain.peak:5.2f} x peak,"
        f" {100 * same:.2f} % the same"
    )


def flatness(what: str, done: list[tuple[Case, Measured]]) -> Iterator[str]:
    """For each width that ran at two sizes: how the peak grew from the fewest to the most."""
    for features in sorted({case.features for case, _ in done}):
        here = [(case.rows, found.peak) for case, found in done if case.features == features]
        (few, low), (many, high) = min(here), max(here)
        if many > few:
            yield (
                f"{features:,} features: {many / few:.1f} times the {what}, "
                f"{high / low:.2f} times the peak"
            )


@click.command()
@click.option("--quick", is_flag=True, help="Small sizes alone, a few seconds.")
@click.option("--largest", is_flag=True, help="{:,} words x {:,} features alone.".format(*LARGEST))
@click.option("--only", type=click.Choice(["words", "images"]), help="Leave the other side out.")
def main(quick: bool, largest: bool, only: str | None) -> None:
    """Prints seconds of processor time, million pairs a second and peak of both ways."""
    words, images = (QUICK_WORDS, QUICK_IMAGES) if quick else (WORDS, IMAGES)
    if largest:
        words, images = (LARGEST,), ()
    for what, sizes in (("words", words), ("images", images)):
        if not sizes or only not in (None, what):
            continue
        click.echo(f"\n{'':18}{'in blocks':>29}   {'plain product, top-k':>29}")
        head = f"{'s':>8} {'M pairs/s':>10} {'peak MiB':>9}   "
        click.echo(f"{what:>8} {'features':>8} {head}{head}".rstrip())
        done = []
        for rows, features in sizes:
            case = Case(what, rows, features, is_plain=False)
            ours = outcome(case)
            if isinstance(ours, str):
                click.echo(f"{rows:8,} {features:8,} {ours}")
                continue
            click.echo(line(case, ours, outcome(Case(what, rows, features, is_plain=True))))
            done.append((case, ours))
        for told in flatness(what, done):
            click.echo(told)


if __name__ == "__main__":
    main()
