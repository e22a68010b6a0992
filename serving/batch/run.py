"""From sources to results: name, read ahead, caption in batches, write, one photograph once.

Order of writing: sinks that need the photograph, then its line in the journal, then sinks that are
made from lines. A run killed between two of them finds at the next start which line is missing and
does that photograph again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from serving.batch.ahead import read_ahead
from serving.batch.answers import Answering, outputs_of
from serving.batch.item import Item, Photo
from serving.batch.journal import Journal
from serving.batch.plan import Plan
from serving.batch.reading import read_item
from serving.batch.result import Result
from serving.batch.sinks import Sink
from serving.batch.sources import Source, Wanted
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage


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
    """One result a photograph, in order, each written when it is given.

    Without a journal a photograph that is named twice is captioned twice, as one would expect of
    lines on a screen. Raises SparsightError where the plan itself is refused or a disk is full.
    """
    # Last, since a sample in a shard cannot be taken back where another sink refuses the result.
    sinks = sorted(sinks, key=lambda sink: sink.needs_data)
    items = _items(sources, _wanted(journal, pace))
    photos = read_ahead(
        items,
        workers=pace.workers,
        n_ahead=pace.batch_size + 2 * pace.workers,
        keep_data=any(sink.needs_data for sink in sinks),
    )
    anything_done = journal is not None and journal.n_done > 0
    while batch := list(islice(photos, pace.batch_size)):
        batch = [_checked(photo, sinks) for photo in batch]
        results = _results(batch, plan, pipeline, journal, pace.batch_size, anything_done)
        for photo, result in zip(batch, results, strict=True):
            result = _write(photo, result, journal, sinks)
            anything_done = anything_done or result.error is None
            yield result
        if journal is not None:
            journal.sync()


def explain_failures(sources: Sequence[Source]) -> Iterator[Result]:
    """The errors of sources that hold no photograph; needs no model."""
    for item in _items(sources, lambda _: True):
        photo = read_item(item)
        yield Result(photo.name, error=photo.error or "came only now; run the command again")


def results_of(
    photos: Sequence[Photo], plan: Plan, pipeline: Answering, batch_size: int
) -> list[Result]:
    """One result for each photograph of a block that nothing is remembered of."""
    return _results(photos, plan, pipeline, None, batch_size, True)


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
    pipeline: Answering,
    journal: Journal | None,
    batch_size: int,
    anything_done: bool,
) -> list[Result]:
    """One result a photograph. Equal bytes are captioned once where there is a journal."""
    results: dict[int, Result] = {}
    fresh: list[tuple[int, DecodedImage]] = []
    first_at: dict[str, int] = {}  # of this batch, by digest
    for i, photo in enumerate(batch):
        image = photo.image
        if image is None:
            results[i] = Result(photo.name, error=photo.error or "no photograph")
        elif journal is None:
            fresh.append((i, image))
        elif (earlier := journal.find(image.sha256)) is not None:
            results[i] = replace(earlier, path=photo.name, duplicate_of=earlier.path)
        elif image.sha256 not in first_at:
            first_at[image.sha256] = i
            fresh.append((i, image))
    made = _outputs([image for _, image in fresh], plan, pipeline, batch_size, anything_done)
    for (i, image), outputs in zip(fresh, made, strict=True):
        name = batch[i].name
        if isinstance(outputs, SparsightError):
            results[i] = Result(name, error=outputs.message)
        else:
            results[i] = Result(name, outputs, sha256=image.sha256)
    for i, photo in enumerate(batch):
        if i not in results and photo.image is not None:
            original = results[first_at[photo.image.sha256]]
            of = None if original.error is not None else original.path
            results[i] = replace(original, path=photo.name, duplicate_of=of)
    return [results[i] for i in range(len(batch))]


def _outputs(
    images: Sequence[DecodedImage],
    plan: Plan,
    pipeline: Answering,
    batch_size: int,
    anything_done: bool,
) -> list[dict[str, Any] | SparsightError]:
    """The outputs of each image. Where a batch is refused, each image is asked by itself.

    A refusal of all images while nothing has ever worked is the plan's fault and is raised.
    """
    if not images:
        return []
    try:
        return list(outputs_of(pipeline, images, plan, batch_size))
    except SparsightError as error:
        if len(images) == 1:
            if not anything_done:
                raise
            return [error]
    made: list[dict[str, Any] | SparsightError] = []
    for image in images:
        try:
            made += outputs_of(pipeline, [image], plan, batch_size)
        except SparsightError as error:
            made.append(error)
    if not anything_done and all(isinstance(each, SparsightError) for each in made):
        raise next(each for each in made if isinstance(each, SparsightError))
    return made


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
