"""The image trunk's own ImageNet classifier as a teacher of names."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.dataset import Sample

# The classifier's outputs follow the sorted WordNet ids of ILSVRC-2012's 1,000 classes. The data
# has one image for each of them but two, so a class's place in the sorted list is known once the
# missing two are put back.
MISSING_CLASSES = ("n01871265", "n04154565")  # tusker, screwdriver
N_CLASSES = 1000


def teacher_classes(samples: Sequence[Sample]) -> tuple[list[str], Tensor]:
    """Names of the known classes, and the classifier's output (classes,) each belongs to.

    Empty where the samples do not hold all 998 fine classes (``imagenet_a`` keys).
    """
    names = {str(s.category): str(s.label) for s in samples if "imagenet_a" in s.key and s.category}
    order = sorted({*names, *MISSING_CLASSES})
    if len(order) != N_CLASSES:
        return [], torch.zeros(0, dtype=torch.int64)
    known = [(i, names[wnid]) for i, wnid in enumerate(order) if wnid in names]
    return [name for _, name in known], torch.tensor([i for i, _ in known])


@torch.no_grad()
def teacher_view(trunk: Any, pooled: Tensor, outputs: Tensor) -> Tensor:
    """The classifier's distribution over the known classes, (batch, classes)."""
    view: Tensor = trunk.classify(pooled)[:, outputs].softmax(-1)
    return view
