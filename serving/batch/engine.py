"""Who turns photographs into outputs: this process, gateways, or a Ray cluster.

An engine reads items its own way and answers for the photographs that are new; names, duplicates,
the journal and the sinks are `run.py`'s, so that all engines resume and write alike.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from serving.batch.ahead import read_ahead
from serving.batch.answers import Answering, outputs_of
from serving.batch.item import Item, Photo
from serving.batch.plan import Plan
from sparse_encoder.errors import SparsightError

Outputs = dict[str, Any] | SparsightError  # of one photograph, or why there are none


class Engine(Protocol):
    """Raises SparsightError where it cannot go on at all; what it answered before stands."""

    n_together: int  # photographs that are asked for at once

    def read(self, items: Iterable[Item], *, keep_data: bool) -> Iterator[Photo]:
        """One photograph an item, in order. keep_data: with the file's bytes."""

    def outputs(self, photos: Sequence[Photo], plan: Plan) -> Iterator[Outputs]:
        """One a photograph (none of them an error), in order, as they come."""


class LocalEngine:
    """A pipeline in this process, worker processes that read and decode ahead of it."""

    def __init__(self, pipeline: Answering, *, batch_size: int, workers: int) -> None:
        self.n_together = batch_size
        self._pipeline = pipeline
        self._workers = workers

    def read(self, items: Iterable[Item], *, keep_data: bool) -> Iterator[Photo]:
        n_ahead = self.n_together + 2 * self._workers
        return read_ahead(items, workers=self._workers, n_ahead=n_ahead, keep_data=keep_data)

    def outputs(self, photos: Sequence[Photo], plan: Plan) -> Iterator[Outputs]:
        """Where a batch is refused, each photograph is asked for by itself."""
        images = [photo.image for photo in photos if photo.image is not None]
        try:
            yield from outputs_of(self._pipeline, images, plan, self.n_together)
            return
        except SparsightError as error:
            if len(images) == 1:
                yield error
                return
        for image in images:
            try:
                yield from outputs_of(self._pipeline, [image], plan, self.n_together)
            except SparsightError as error:
                yield error
