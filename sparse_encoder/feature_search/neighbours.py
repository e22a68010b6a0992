"""Features like a feature, by the direction of its row in the head.

Two features with the same direction read the same thing of the trunk; features that are active on
the same images without a common direction are found by co-activation, which an atlas may hold.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def nearest_by_head(
    weight: Tensor, norm: Tensor, feature: int, n: int, allowed: NDArray[np.bool_]
) -> list[tuple[int, float]]:
    """The `n` features whose head rows have the largest cosine with that of `feature`, best first.

    weight: (features, width), norm: of its rows, (features,), made once by `row_norms`. allowed:
    (features,), others are left out, as `feature` itself is. Cosines are in [-1, 1]; a row of zeros
    has 0 with all. Equal ones: the lower index first. Nothing of features x width is made.
    """
    cosine = (weight @ weight[feature]) / (norm * norm[feature]).clamp_min(1e-12)  # (features,)
    kept = torch.from_numpy(allowed).clone()
    kept[feature] = False
    order = cosine.masked_fill(~kept, -torch.inf).argsort(descending=True, stable=True)
    best = order[: min(n, int(kept.sum()))]
    return [(int(j), float(cosine[j].clamp(-1, 1))) for j in best]


def row_norms(weight: Tensor) -> Tensor:
    """L2 norm of each row of (features, width)."""
    norm: Tensor = torch.linalg.vector_norm(weight, dim=1)
    return norm


def nearest_of_all(
    weight: Tensor, norm: Tensor, n: int, allowed: NDArray[np.bool_], block: int = 256
) -> tuple[Tensor, Tensor]:
    """`nearest_by_head` of every feature: index and cosine, both (features, at most n).

    Computed `block` features at once, which holds block x features numbers and no more.
    """
    n_features = len(weight)
    hidden = ~torch.from_numpy(allowed)
    n = min(n, max(n_features - 1, 0))
    index, cosine = [], []
    for start in range(0, n_features, block):
        stop = min(start + block, n_features)
        scale = (norm[start:stop, None] * norm[None]).clamp_min(1e-12)
        found = (weight[start:stop] @ weight.T) / scale  # (block, features)
        found.masked_fill_(hidden, -torch.inf)
        found[torch.arange(stop - start), torch.arange(start, stop)] = -torch.inf
        best = found.topk(n, dim=1)
        index.append(best.indices)
        cosine.append(best.values)
    return torch.cat(index), torch.cat(cosine)
