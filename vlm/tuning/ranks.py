"""What processes that train one captioner share: the weights that they begin with, and gradients."""

from collections.abc import Iterable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

_BUCKET = 2**26  # gradients that are summed over processes at once


@torch.no_grad()
def begin_alike(parameters: Iterable[nn.Parameter]) -> None:
    """The weights of the main process on all: equal seeds make equal ones on equal machines only."""
    for parameter in parameters:
        parameter.copy_(broadcast(parameter.data))


def sum_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Puts the sum over ranks in place of each rank's gradients; one that has none counts as zero."""
    if accelerator.num_processes == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    bucket: list[Tensor] = []
    for parameter in parameters:
        assert parameter.grad is not None
        bucket.append(parameter.grad)
        if sum(g.numel() for g in bucket) >= _BUCKET:
            _sum_bucket(bucket, accelerator)
            bucket = []
    if bucket:
        _sum_bucket(bucket, accelerator)


def _sum_bucket(gradients: list[Tensor], accelerator: Accelerator) -> None:
    flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "sum")
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
