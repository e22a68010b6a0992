"""Captions of a block of rows, for engines that hand out rows (Ray Data, Spark, datasets.map)."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.batch.answers import Answering
from serving.batch.item import Item
from serving.batch.plan import Plan
from serving.batch.reading import read_item
from serving.batch.run import results_of


class CaptionRows:
    """One actor: holds a model and captions blocks. Not safe for threads.

    A block is columns of equal length: ``path``, and ``bytes`` where the photographs' bytes are at
    hand (None: they are read from the path). It gives back ``path``, ``sha256``, ``captions`` (one
    list a row, in the order of the plan's prompts, then steerings), ``error``; None where there is
    none. No row is lost: a bad photograph is a row with an error.
    """

    def __init__(self, pipeline: Answering, plan: Plan, *, batch_size: int = 8) -> None:
        self._pipeline = pipeline
        self._plan = plan
        self._batch_size = batch_size

    @classmethod
    def load(cls, model: str, *, batch_size: int = 8) -> "CaptionRows":
        """The model of that name or folder, one plain caption a photograph."""
        from vlm.pipeline import Pipeline

        pipeline = Pipeline.load(model)
        return cls(pipeline, Plan(pipeline.fingerprint), batch_size=batch_size)

    def __call__(self, block: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The results of a block's rows, in order."""
        paths = [str(path) for path in block["path"]]
        given = block.get("bytes", [None] * len(paths))
        out: dict[str, list[Any]] = {"path": [], "sha256": [], "captions": [], "error": []}
        for start in range(0, len(paths), self._batch_size):
            stop = start + self._batch_size
            pairs = zip(paths[start:stop], given[start:stop], strict=True)
            photos = [read_item(Item(path, data=data)) for path, data in pairs]
            for result in results_of(photos, self._plan, self._pipeline, self._batch_size):
                out["path"].append(result.path)
                out["sha256"].append(result.sha256)
                out["captions"].append(result.captions if result.error is None else None)
                out["error"].append(result.error)
        return out
