"""``top_images.parquet``: the strongest images of each feature and where in them it is active.

One row a feature and image: feature, rank from 0, id, shard, activation (raw units, global code),
cell_scale (largest activation of a cell) and cells: a byte each in reading order, 255 the largest.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.features.shard_codes import ShardStore
from sparse_encoder.features.state import Arrays

TOP_FILE = "top_images.parquet"


def cell_maps(store: ShardStore, top_image: NDArray[np.int64]) -> Iterator[Arrays]:
    """Shard by shard the maps of its images among the top ones, (features, k) numbered over all.

    feature, rank, image: (rows,), cells: (rows, cells) uint8, scale: (rows,), id: (rows,).
    """
    first = 0
    for i in range(len(store)):
        shard = store[i]
        here = slice(first, first + len(shard))
        first += len(shard)
        yield store.state.once(f"maps-{i}", lambda i=i, here=here: _maps(store, i, here, top_image))  # type: ignore[misc]


@torch.no_grad()
def _maps(store: ShardStore, i: int, here: slice, top_image: NDArray[np.int64]) -> Arrays:
    inside = (top_image >= here.start) & (top_image < here.stop)
    feature, rank = np.nonzero(inside)
    image = top_image[feature, rank]
    order = np.lexsort((rank, feature, image))
    feature, rank, image = feature[order], rank[order], image[order]
    n_cells = store.encoder.grid[0] * store.encoder.grid[1]
    cells = np.zeros((len(image), n_cells), np.uint8)
    scale = np.zeros(len(image), np.float32)
    ids = np.zeros(len(image), "U1")
    source = store.cells(i) if len(image) else None
    if source is not None:
        keys = np.array([sample.key for sample in source.samples], dtype=np.str_)
        ids = keys[image - here.start]
        starts = np.flatnonzero(np.diff(image, prepend=-1))
        for lo, hi in zip(starts, [*starts[1:], len(image)], strict=True):
            wanted = torch.from_numpy(feature[lo:hi])
            activation = _activations(
                store.encoder, source.cells(int(image[lo]) - here.start), wanted
            )
            most = activation.amax(0)  # (features wanted,)
            scaled = 255 * activation / most.clamp(min=1e-12)
            cells[lo:hi] = scaled.round().byte().T.numpy()
            scale[lo:hi] = most.numpy()
    return {
        "feature": feature.astype(np.int32),
        "rank": rank.astype(np.int32),
        "image": image,
        "cells": cells,
        "scale": scale,
        "id": ids,
    }


def _activations(encoder: SparseEncoder, cells: Tensor, features: Tensor) -> Tensor:
    """Activations (cells, features wanted) of one image's trunk cells."""
    head = encoder.image_head
    if head.hidden is None and head.activation == "relu":
        pre_code = cells @ head.weight[features].T + head.bias[features]
        return pre_code.clamp(min=0)
    code: Tensor = head(cells)[:, features]  # a top-k rule must see all features
    return code


def top_table(
    maps: Sequence[Arrays],
    shard_names: Sequence[str],
    top_activation: NDArray[np.float32],
    fingerprint: str,
    grid: tuple[int, int],
) -> pa.Table:
    """All rows by feature and rank."""
    feature = np.concatenate([m["feature"] for m in maps])
    rank = np.concatenate([m["rank"] for m in maps])
    shard = np.concatenate([np.full(len(m["feature"]), i) for i, m in enumerate(maps)])
    order = np.lexsort((rank, feature))
    feature, rank = feature[order], rank[order]
    cells = np.concatenate([m["cells"] for m in maps])[order]
    columns = {
        "feature": pa.array(feature, pa.int32()),
        "rank": pa.array(rank, pa.int32()),
        "id": pa.array(np.concatenate([m["id"] for m in maps])[order].tolist(), pa.string()),
        "shard": pa.array([shard_names[i] for i in shard[order]], pa.string()).dictionary_encode(),
        "activation": pa.array(top_activation[feature, rank], pa.float32()),
        "cell_scale": pa.array(np.concatenate([m["scale"] for m in maps])[order], pa.float32()),
        "cells": pa.array([row.tobytes() for row in cells], pa.binary(cells.shape[1])),
    }
    return pa.table(columns).replace_schema_metadata(
        {"fingerprint": fingerprint, "grid": f"{grid[0]}x{grid[1]}"}
    )
