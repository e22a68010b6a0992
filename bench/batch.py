"""Photographs a second of ``sparsight caption`` against a plain loop: ``python -m bench.batch``.

The plain loop is what one writes first: open, encode, generate, one photograph after the other. The
batch is the command's own way, journal included. Both run on the same made-up photographs, with the
same model, in one process after the other's codes were dropped, and their captions are compared.
Wall time counts only on an idle machine; CPU time, worker processes included, is printed beside it.

With ``--memory`` no model runs: the resident size after ever more photographs (distinct bytes,
decoded and journalled; answers are made up) shows whether anything grows with their number.
"""

import io
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from serving.batch.item import Item
from serving.batch.journal import Journal
from serving.batch.plan import Plan
from serving.batch.run import Pace, caption_all
from serving.batch.sources import open_sources
from sparse_encoder.image import open_image
from vlm.pipeline import Answer, Pipeline, Request, Sampling, caption_request

MIB = 2**20
SELF, CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.spent[what] = self.spent.get(what, 0.0) + time.perf_counter() - began

    def shares(self, total: float) -> str:
        parts = [f"{what} {100 * s / total:.0f} %" for what, s in self.spent.items()]
        rest = 100 * (1 - sum(self.spent.values()) / total)
        return ", ".join([*parts, f"rest {rest:.0f} %"])


def made_up_photo(seed: int, size: tuple[int, int]) -> bytes:
    """Blurred patches of colour under fine noise, as a JPEG of about a camera's density."""
    random = np.random.default_rng(seed)
    patches = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)
    noise = random.normal(0, 6, (size[1], size[0], 1))
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def plain_loop(
    pipeline: Pipeline, paths: Sequence[Path], max_tokens: int, clock: Clock
) -> list[str]:
    """Decode, encode, generate, one by one."""
    captions = []
    for path in paths:
        with clock.on("decode"):
            image = open_image(path)
        with clock.on("encode"):
            pipeline.encode([image])  # kept, so answer finds it
        with clock.on("LLM"):
            request = caption_request(image, sampling=Sampling(max_tokens=max_tokens))
            captions += [answer.text for answer in pipeline.answer([request])]
    return captions


class Timed:
    """A pipeline with its encoding and its generation on the clock."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        self._pipeline = pipeline
        self._clock = clock

    def encode(self, images: Sequence[Any]) -> Any:
        with self._clock.on("encode"):
            return self._pipeline.encode(images)

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        self.encode([request.messages[0].parts[0].image for request in requests])  # type: ignore[union-attr]
        with self._clock.on("LLM"):
            return self._pipeline.answer(requests)


def batch(pipeline: Pipeline, folder: Path, pace: Pace, max_tokens: int, clock: Clock) -> list[str]:
    """What the command does, in order of name."""
    plan = Plan(pipeline.fingerprint, max_tokens=max_tokens)
    with Journal(folder / "captions.jsonl", plan, overwrite=True) as journal:
        results = caption_all(
            open_sources([str(folder)]), plan, Timed(pipeline, clock), journal=journal, pace=pace
        )
        return [result.captions[0] for result in results]


@dataclass(frozen=True)
class Measured:
    """Captions, seconds of wall and CPU time, the latter of worker processes too, and the clock."""

    captions: list[str]
    wall_s: float
    cpu_s: float
    workers_cpu_s: float  # of that, in worker processes: reading and decoding
    clock: Clock


def measured(work: Callable[[Clock], list[str]]) -> Measured:
    """What `work` gave and took; it has to have ended its worker processes."""
    clock, before, wall = Clock(), (_cpu_s(SELF), _cpu_s(CHILDREN)), time.perf_counter()
    captions = work(clock)
    own, workers = _cpu_s(SELF) - before[0], _cpu_s(CHILDREN) - before[1]
    return Measured(captions, time.perf_counter() - wall, own + workers, workers, clock)


def _cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


class _Answers:
    """No model: an answer of the usual length at once."""

    def encode(self, images: Sequence[Any]) -> Any:
        raise AssertionError("captions alone are asked for")

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        return [Answer("a man in a red shirt is standing on a beach", "stop", 30, 12, None)] * len(
            requests
        )


class _Numbers:
    """A source of n photographs of distinct bytes."""

    def __init__(self, n: int) -> None:
        self._n = n
        out = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(out, "BMP")  # bytes after the pixels do not matter
        self._photo = out.getvalue()

    def count(self) -> int:
        return self._n

    def has_any(self) -> bool:
        return True

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        for n in range(self._n):
            if wanted(f"archive/{n:09d}.bmp"):
                yield Item(f"archive/{n:09d}.bmp", data=self._photo + n.to_bytes(8, "big"))


def memory(n_photos: int) -> Iterator[tuple[int, float]]:
    """(photographs done, resident MiB) at powers of two, up to n_photos."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan("0" * 64)
        with Journal(Path(folder) / "captions.jsonl", plan) as journal:
            pace = Pace(batch_size=8, workers=0)
            results = caption_all(
                [_Numbers(n_photos)], plan, _Answers(), journal=journal, pace=pace
            )
            for n, result in enumerate(results, 1):
                assert result.error is None, result.error
                if n >= 1000 and (n & (n - 1) == 0 or n == n_photos):
                    yield n, _resident_mib()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


@click.command()
@click.option("--model", default="sparsight-mini", show_default=True)
@click.option("--photos", default=64, show_default=True, help="Made-up photographs.")
@click.option("--size", nargs=2, type=int, default=(1600, 1200), show_default=True, help="Pixels.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that decode.")
@click.option("--max-tokens", default=64, show_default=True)
@click.option("--threads", default=0, help="Of torch; 0: as torch chooses.")
@click.option("--memory", "n_memory", default=0, help="Instead: memory over so many photographs.")
def main(
    model: str,
    photos: int,
    size: tuple[int, int],
    batch_size: int,
    workers: int,
    max_tokens: int,
    threads: int,
    n_memory: int,
) -> None:
    """Time the batch against the plain loop, or measure its memory."""
    if n_memory:
        for n, resident in memory(n_memory):
            click.echo(f"{n:>9,} photographs: {resident:.0f} MiB resident")
        return
    if threads:
        torch.set_num_threads(threads)
    pipeline = Pipeline.load(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{n:05d}.jpg" for n in range(photos)]
        for n, path in enumerate(paths):
            path.write_bytes(made_up_photo(n, size))
        pace = Pace(batch_size=batch_size, workers=workers)
        plain_loop(pipeline, paths[:1], 4, Clock())  # the first one pays for lazy starts
        runs = {}
        for what, work in (
            ("plain loop", lambda clock: plain_loop(pipeline, paths, max_tokens, clock)),
            ("batch", lambda clock: batch(pipeline, folder, pace, max_tokens, clock)),
        ):
            pipeline.kept_codes.clear()
            runs[what] = measured(work)
        report(runs, photos)


def report(runs: dict[str, Measured], photos: int) -> None:
    """Rates, shares and whether both said the same."""
    for what, run in runs.items():
        click.echo(
            f"{what:>10}: {photos / run.wall_s:.2f} photographs/s ({run.wall_s:.1f} s wall, "
            f"{run.cpu_s:.1f} s CPU, of it {run.workers_cpu_s:.1f} s decoding in workers): "
            f"{run.clock.shares(run.wall_s)}"
        )
    plain, ours = runs.values()
    click.echo(
        f"speed-up {plain.wall_s / ours.wall_s:.2f} in wall time, "
        f"{plain.cpu_s / ours.cpu_s:.2f} in CPU time"
    )
    n_same = sum(one == other for one, other in zip(plain.captions, ours.captions, strict=True))
    click.echo(f"{n_same} of {photos} captions equal")


if __name__ == "__main__":
    main()
