"""``--engine ray``: photographs through Ray Data, results back to this process in their order.

This process names photographs and keeps journal and sinks, so a run resumes as any other. It hands
out windows of names; the cluster's machines read them twice, once for digests (of equal bytes one
photograph is captioned) and once for captions. Ray does again what a lost machine had.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow

from serving.batch.ahead import CRASHED
from serving.batch.cluster.connect import (
    ENCODER_CPUS,
    READER_CPUS,
    SPEAKER_CPUS,
    Cluster,
    ray_library,
)
from serving.batch.cluster.model_stages import Encoders, Speakers
from serving.batch.cluster.read_stages import NAMED, TAKEN, decode, find
from serving.batch.engine import Outputs
from serving.batch.item import Item, Photo
from serving.batch.plan import Plan
from sparse_encoder.errors import SparsightError

# Actors load their models anew for each window: at 3 photographs a second and actor, and 10 s for
# loading, this costs a few parts in a thousand.
WINDOW = 16_384  # photographs
WINDOW_WITH_DATA = 512  # where their bytes come back to this process
N_BYTES = 64 * 2**20  # of photographs that a source read itself, at once
N_LOST = 8  # blocks of a window that may be lost with all who tried them


class RayEngine:
    """On the cluster that `connect.connected` has opened."""

    n_together = WINDOW

    def __init__(self, model: str, cluster: Cluster, *, batch_size: int) -> None:
        self._model = model
        self._cluster = cluster
        self._batch_size = batch_size
        self._ray = ray_library()

    def read(self, items: Iterable[Item], *, keep_data: bool) -> Iterator[Photo]:
        """Photographs that are named and have a digest, but are not decoded."""
        remaining = iter(items)
        while window := list(_window(remaining, WINDOW_WITH_DATA if keep_data else WINDOW)):
            yield from self._found(window, keep_data)

    def outputs(self, photos: Sequence[Photo], plan: Plan) -> Iterator[Outputs]:
        """Raises SparsightError where the cluster fails. A photograph that no machine survives is
        an error of its own, told once the others are done."""
        rows: list[dict[str, Any]] = [
            {"i": i, "name": _encoded(photo.name), "sha256": photo.sha256, "data": photo.data}
            for i, photo in enumerate(photos)
        ]
        held: dict[int, Outputs] = {}
        n_given = 0
        for i, made in self._made(rows, plan, self._batch_size):
            held[i] = made
            while n_given in held:
                yield held.pop(n_given)
                n_given += 1
        lost = [row for row in rows if row["i"] >= n_given and row["i"] not in held]
        for i, made in self._made(lost, plan, 1) if lost else ():
            held[i] = made
        for i in range(n_given, len(rows)):
            yield held.get(i, SparsightError(CRASHED))

    def _made(
        self, rows: Sequence[dict[str, Any]], plan: Plan, block_size: int
    ) -> Iterator[tuple[int, Outputs]]:
        """In order; blocks that the cluster gave up are left out."""
        cluster = self._cluster
        dataset = self._dataset(rows, TAKEN, block_size)
        dataset = self._each(dataset, decode, READER_CPUS, concurrency=cluster.readers)
        dataset = self._each(
            dataset,
            Encoders,
            ENCODER_CPUS,
            concurrency=cluster.encoders,
            fn_constructor_kwargs={"model": self._model, "plan": plan},
        )
        options = {"model": self._model, "plan": plan, "batch_size": self._batch_size}
        dataset = self._each(
            dataset,
            Speakers,
            SPEAKER_CPUS,
            concurrency=cluster.speakers,
            num_gpus=cluster.speaker_gpus,
            fn_constructor_kwargs=options,
        )
        for row in self._rows(dataset):
            error = row["error"]
            made = json.loads(row["outputs"]) if error is None else SparsightError(error)
            yield row["i"], made

    def _found(self, window: Sequence[Item], keep_data: bool) -> Iterator[Photo]:
        away = [
            {"i": i, "name": _encoded(item.name)}
            for i, item in enumerate(window)
            if item.error is None and item.data is None
        ]
        found: dict[int, dict[str, Any]] = {}
        if away:
            dataset = self._dataset(away, NAMED, 64)
            dataset = self._each(
                dataset,
                find,
                READER_CPUS,
                concurrency=self._cluster.readers,
                fn_kwargs={"keep_data": keep_data},
            )
            found = {row["i"]: row for row in self._rows(dataset)}
        for i, item in enumerate(window):
            if item.error is not None:
                yield Photo(item.name, error=item.error)
            elif item.data is not None:
                digest = hashlib.sha256(item.data).hexdigest()
                yield Photo(item.name, data=item.data, digest=digest)
            elif i in found:
                row = found[i]
                yield Photo(item.name, error=row["error"], data=row["data"], digest=row["sha256"])
            else:
                yield Photo(item.name, error=CRASHED)

    def _dataset(self, rows: Sequence[dict[str, Any]], schema: Any, block_size: int) -> Any:
        """A block for each `block_size` rows, in order."""
        starts = range(0, len(rows), block_size)
        blocks = [
            pyarrow.Table.from_pylist(rows[start : start + block_size], schema=schema)
            for start in starts
        ]
        dataset = self._ray.data.from_arrow(blocks)
        dataset.context.execution_options.preserve_order = True
        dataset.context.max_errored_blocks = N_LOST
        return dataset

    def _each(self, dataset: Any, step: Any, num_cpus: float, **options: Any) -> Any:
        """The step done to each block as it is."""
        return dataset.map_batches(
            step,
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=num_cpus,
            **options,
        )

    def _rows(self, dataset: Any) -> Iterator[dict[str, Any]]:
        try:
            for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from block.to_pylist()
        except self._ray.exceptions.RayError as error:
            raise SparsightError(
                f"the Ray cluster failed: {_reason(error)}; what is written is safe, run the same "
                "command again to go on",
                code="cluster_failed",
            ) from error


def _window(items: Iterator[Item], n: int) -> Iterator[Item]:
    """At most n items, fewer where sources bring their bytes."""
    n_bytes = 0
    for item in islice(items, n):
        yield item
        n_bytes += len(item.data or b"")
        if n_bytes >= N_BYTES:
            return


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    """The last line of what a machine said, which names the error; above it is its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
