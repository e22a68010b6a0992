"""The plain loop and the batch, each on the clock."""

import io
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from serving.batch.journal import Journal
from serving.batch.plan import Plan
from serving.batch.run import Pace, caption_all
from serving.batch.sources import open_sources
from sparse_encoder.dataset import find_shards, read_samples
from sparse_encoder.image import decode_image, open_image
from vlm.pipeline import Answer, Pipeline, Request, Sampling, caption_request

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


def photo_files(data: Path | None, n: int, size: tuple[int, int]) -> Iterator[bytes]:
    """At most n JPEGs of so many pixels: Flickr8k's held-out photographs below `data`, squashed to
    the size of a camera's, or made-up ones."""
    if data is None:
        yield from (made_up_photo(seed, size) for seed in range(n))
        return
    for sample in islice(read_samples(find_shards(data, "flickr8k/val-*.tar")), n):
        yield _jpeg(decode_image(sample.image).pixels.resize(size, Image.Resampling.BICUBIC))


def made_up_photo(seed: int, size: tuple[int, int]) -> bytes:
    """Blurred patches of colour under fine noise, as a JPEG of about a camera's density."""
    random = np.random.default_rng(seed)
    patches = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)
    noise = random.normal(0, 6, (size[1], size[0], 1))
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    return _jpeg(Image.fromarray(pixels))


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
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


def report(runs: dict[str, Measured]) -> None:
    """Rates, shares and whether both said the same."""
    photos = len(next(iter(runs.values())).captions)
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
