"""From sources to results: name, read ahead, caption in batches, write, one photograph once.

Order of writing: sinks that need the photograph, then its line in the journal, then sinks that are
made from lines. A run killed between two of them finds at the next start which line is missing and
does that photograph again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from serving.batch.answers import Answering
from serving.batch.engine import Engine, LocalEngine, Outputs
from serving.batch.item import Item, Photo
from serving.batch.journal import Journal
from serving.batch.plan import Plan
from serving.batch.reading import read_item
from serving.batch.result import Result
from serving.batch.sinks import Sink
from serving.batch.sources import Source, Wanted
from sparse_encoder.errors import SparsightError

MAX_BYTES = 256 * 2**20  # of photographs that are held to be asked for together
N_REFUSED = 8  # photographs refused in a row before any worked: it is the plan that is refused


@dataclass(frozen=True)
class Pace:
    """How the work is cut; no result depends on it (to rounding)."""

    batch_size: int = 8  # answers generated at once
    workers: int = 1  # processes that read and decode; 0: read between batches
    shard: tuple[int, int] = (1, 1)  # the i-th of n runs that share the photographs, from 1
    retry_failed: bool = True


def caption_all(
    sources: Sequence[Source],
    plan: Plan,
    pipeline: Answering,
    *,
    journal: Journal | None = None,
    sinks: Sequence[Sink] = (),
    pace: Pace = Pace(),
) -> Iterator[Result]:
    """`run` by a pipeline in this process."""
    engine = LocalEngine(pipeline, batch_size=pace.batch_size, workers=pace.workers)
    return run(sources, plan, engine, journal=journal, sinks=sinks, pace=pace)


def run(
    sources: Sequence[Source],
    plan: Plan,
    engine: Engine,
    *,
    journal: Journal | None = None,
    sinks: Sequence[Sink] = (),
    pace: Pace = Pace(),
) -> Iterator[Result]:
    """One result a photograph, in order, each written when it is given.

    Without a journal a photograph that is named twice is captioned twice, as one would expect of
    lines on a screen. Raises SparsightError where the plan itself is refused, the engine cannot go
    on, or a disk is full.
    """
    # Last, since a sample in a shard cannot be taken back where another sink refuses the result.
    sinks = sorted(sinks, key=lambda sink: sink.needs_data)
    items = _items(sources, _wanted(journal, pace))
    photos = engine.read(items, keep_data=any(sink.needs_data for sink in sinks))
    anything_done = journal is not None and journal.n_done > 0
    for batch in _together(photos, engine.n_together):
        batch = [_checked(photo, sinks) for photo in batch]
        results = _results(batch, plan, engine, journal, anything_done)
        for n, (photo, result) in enumerate(zip(batch, results, strict=True), 1):
            result = _write(photo, result, journal, sinks)
            anything_done = anything_done or result.error is None
            if journal is not None and (n == len(batch) or n % pace.batch_size == 0):
                journal.sync()
            yield result


def explain_failures(sources: Sequence[Source]) -> Iterator[Result]:
    """The errors of sources that hold no photograph; needs no model."""
    for item in _items(sources, lambda _: True):
        photo = read_item(item)
        yield Result(photo.name, error=photo.error or "came only now; run the command again")


def in_shard(name: str, shard: tuple[int, int]) -> bool:
    """Whether a photograph falls to run i of n; by its name, so that new ones move no others."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shard[1] == shard[0] - 1


def _wanted(journal: Journal | None, pace: Pace) -> Wanted:
    def wanted(name: str) -> bool:
        if not in_shard(name, pace.shard):
            return False
        return journal is None or journal.claim(name, retry_failed=pace.retry_failed)

    return wanted


def _items(sources: Iterable[Source], wanted: Wanted) -> Iterator[Item]:
    return chain.from_iterable(source.items(wanted) for source in sources)


def _together(photos: Iterator[Photo], n: int) -> Iterator[list[Photo]]:
    """At most n photographs, or as many as their bytes allow."""
    batch: list[Photo] = []
    n_bytes = 0
    for photo in photos:
        batch.append(photo)
        n_bytes += len(photo.data or b"")
        if len(batch) >= n or n_bytes >= MAX_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _checked(photo: Photo, sinks: Sequence[Sink]) -> Photo:
    """The photograph, or an error where a sink can tell now that it will not take its result."""
    if photo.error is not None:
        return photo
    for sink in sinks:
        if (why := sink.refuses(photo.name)) is not None:
            return Photo(photo.name, error=why)
    return photo


def _results(
    batch: Sequence[Photo],
    plan: Plan,
    engine: Engine,
    journal: Journal | None,
    anything_done: bool,
) -> Iterator[Result]:
    """One result a photograph, in order. Equal bytes are captioned once where there is a journal."""
    known: dict[int, Result] = {}
    fresh: list[Photo] = []
    twin_of: dict[int, str] = {}  # later ones of this batch with bytes that are being asked for
    asked: set[str] = set()
    for i, photo in enumerate(batch):
        digest = photo.sha256
        if digest is None:
            known[i] = Result(photo.name, error=photo.error or "no photograph")
        elif journal is None:
            fresh.append(photo)
        elif (earlier := journal.find(digest)) is not None:
            known[i] = replace(earlier, path=photo.name, duplicate_of=earlier.path)
        elif digest in asked:
            twin_of[i] = digest
        else:
            asked.add(digest)
            fresh.append(photo)
    outputs: Iterator[Outputs] = iter(())
    if fresh:
        outputs = _unless_all_refused(engine.outputs(fresh, plan), len(fresh), anything_done)
    first: dict[str, Result] = {}  # of those that have a twin, by digest
    awaited = set(twin_of.values())
    for i, photo in enumerate(batch):
        if i in known:
            yield known[i]
        elif i in twin_of:
            original = first[twin_of[i]]
            of = None if original.error is not None else original.path
            yield replace(original, path=photo.name, duplicate_of=of)
        else:
            made = next(outputs)
            if isinstance(made, SparsightError):
                result = Result(photo.name, error=made.message)
            else:
                result = Result(photo.name, made, sha256=photo.sha256)
            if photo.sha256 in awaited:
                first[str(photo.sha256)] = result
            yield result


def _unless_all_refused(
    outputs: Iterator[Outputs], n: int, anything_done: bool
) -> Iterator[Outputs]:
    """The same; raises where all (of the first few) are refused while nothing has ever worked.

    It is then the plan's fault: a concept that does not exist fails a million times.
    """
    held: list[SparsightError] = []
    for made in outputs:
        if isinstance(made, SparsightError) and not anything_done:
            held.append(made)
            if len(held) >= min(n, N_REFUSED):
                raise held[0]
            continue
        anything_done = True
        yield from held
        held = []
        yield made


def _write(photo: Photo, result: Result, journal: Journal | None, sinks: Sequence[Sink]) -> Result:
    """The result as it was written: an error where a sink could not take it."""
    if result.error is None:
        for sink in sinks:
            if (why := sink.before(result, photo.data)) is not None:
                result = Result(photo.name, error=why)
                break
    if journal is not None:
        journal.append(result)
    if result.error is None:
        for sink in sinks:
            sink.after(result)
    return result
