"""Features that are active on the same images, found block by block."""

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.features.columns import ImageColumns
from sparse_encoder.features.running_topk import RunningTopK
from sparse_encoder.features.state import Arrays

ROW_BLOCK = 1024  # features a saved block
COLUMN_BLOCK = 1024


def nearest_by_activation(
    columns: ImageColumns, start: int, stop: int, k: int, n_images: int
) -> Arrays:
    """For the features start..stop the k others with the largest cosine over images.

    The cosine is of two features' activations on the first `n_images` of the columns, [0, 1].
    index: (features of the block, k), -1 where fewer are ever active together; cosine the same, 0
    there. Holds images x block and block x block, never features x features.
    """
    n_features = len(columns.offset) - 1
    found = RunningTopK(stop - start, k)
    mine = _unit_columns(columns.dense(start, stop, n_images))  # (images, block)
    for low in range(0, n_features, COLUMN_BLOCK):
        high = min(low + COLUMN_BLOCK, n_features)
        cosine = mine.T @ _unit_columns(columns.dense(low, high, n_images))
        number = torch.arange(low, high)
        itself = torch.arange(start, stop)[:, None] == number
        found.add(cosine.masked_fill(itself | (cosine <= 0), -torch.inf), number)
    cosine = torch.where(found.index >= 0, found.value.clamp(max=1), 0.0)
    return {"index": found.index.numpy().astype(np.int32), "cosine": cosine.numpy()}


def _unit_columns(activation: Tensor) -> Tensor:
    length: Tensor = activation.norm(dim=0).clamp(min=1e-12)
    return activation / length
