"""Reads ``top_images.parquet``: which images a feature is strongest on, and where in them.

An atlas may come without it, as the one in the box does: its images are not ours to show.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparse_encoder.errors import SparsightError
from sparse_encoder.features.top_images import TOP_FILE

_COLUMNS = ("feature", "id", "shard", "activation", "cell_scale", "cells")


@dataclass(frozen=True, eq=False)
class TopImage:
    """One of the strongest reference images of a feature."""

    id: str  # in its shard
    shard: str
    activation: float  # global, raw units
    cells: NDArray[np.float32]  # (rows, cols), raw activations, rows from the top


class TopImages:
    """All rows of one atlas. Read-only, safe to share."""

    def __init__(self, table: pa.Table, grid: tuple[int, int]) -> None:
        self.grid = grid
        self._table = table  # by feature and rank
        self._feature: NDArray[np.int32] = table["feature"].to_numpy()

    def of(self, feature: int) -> list[TopImage]:
        """Strongest first; none where the feature is active on no reference image."""
        start, stop = np.searchsorted(self._feature, [feature, feature + 1])
        return [
            TopImage(row["id"], row["shard"], row["activation"], self._cells(row))
            for row in self._table.slice(start, stop - start).to_pylist()
        ]

    def _cells(self, row: dict[str, Any]) -> NDArray[np.float32]:
        level = np.frombuffer(row["cells"], np.uint8).reshape(self.grid)
        return level * np.float32(row["cell_scale"] / 255)


def read_top_images(folder: Path, fingerprint: str) -> TopImages | None:
    """The top images of the atlas in `folder`; None where it has none.

    Raises SparsightError for a file that is damaged or of another model.
    """
    path = folder / TOP_FILE
    if not path.exists():
        return None
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
        meta = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
        found, (rows, cols) = meta["fingerprint"], map(int, meta["grid"].split("x"))
    except (OSError, KeyError, AttributeError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise SparsightError(
            f"{path} is not readable ({error}); build the atlas again, or delete this file to go "
            "on without the strongest images",
            code="bad_atlas",
        ) from error
    if found != fingerprint:
        raise SparsightError(
            f"{path} was made for model {found[:12]}, not for {fingerprint[:12]}; build the atlas "
            "again, or delete this file to go on without the strongest images",
            code="other_fingerprint",
        )
    return TopImages(table, (rows, cols))
