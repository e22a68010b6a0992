"""Trunks in micro-batches, the contrastive loss on the whole batch (GradCache, arXiv 2101.06983).

Gradient accumulation would give each micro-batch its own, fewer negatives. Here the trunk outputs of
the whole batch are made first without a graph, the loss gives their gradients, and each micro-batch is
then run again with its share of those: the same gradients as one large batch, at the memory of a
small one and the price of a second forward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[Sequence[Tensor]], Tensor]


def backward_whole_batch(
    trunks: Sequence[nn.Module],
    batches: Sequence[Sequence[Any]],
    loss: Loss,
    *,
    backward: Callable[[Tensor], Any] = torch.Tensor.backward,
    no_sync: Callable[[nn.Module], AbstractContextManager[Any]] = lambda _: nullcontext(),
) -> Tensor:
    """Adds to every parameter the gradient of ``loss`` on the outputs of all micro-batches.

    trunks: one a modality; each maps a micro-batch to outputs (rows, width). batches: for each trunk
    its micro-batches. loss: takes the outputs of each trunk, (batch, width), to a scalar; parameters
    of its own get their gradients too. backward: accelerate's, where losses are scaled. no_sync: for a
    trunk, a context in which gradients are not averaged over ranks; left once, for its last
    micro-batch. Returns the loss, detached.
    """
    runs = [_Run(trunk, parts) for trunk, parts in zip(trunks, batches, strict=True)]
    outputs = [run.outputs() for run in runs]
    leaves = [out.detach().requires_grad_() for out in outputs]
    value = loss(leaves)
    backward(value)
    for run, leaf in zip(runs, leaves, strict=True):
        if leaf.grad is not None:
            run.backward(leaf.grad, no_sync)
    return value.detach()


class _Run:
    """One trunk over its micro-batches, twice where there is more than one."""

    def __init__(self, trunk: nn.Module, parts: Sequence[Any]) -> None:
        self.trunk = trunk
        self.parts = parts
        self._states: list[tuple[Tensor, list[Tensor]]] = []
        self._only: Tensor | None = None

    def outputs(self) -> Tensor:
        if len(self.parts) == 1:  # its graph fits, so it is kept
            self._only = self.trunk(self.parts[0])
            return self._only
        out = []
        with torch.no_grad():
            for part in self.parts:
                self._states.append(_random_state())
                out.append(self.trunk(part))
        return torch.cat(out)

    def backward(
        self, gradient: Tensor, no_sync: Callable[[nn.Module], AbstractContextManager[Any]]
    ) -> None:
        if self._only is not None:
            self._only.backward(gradient)
            return
        start = 0
        for i, (part, state) in enumerate(zip(self.parts, self._states, strict=True)):
            last = i + 1 == len(self.parts)
            with nullcontext() if last else no_sync(self.trunk), _replayed(state):
                out: Tensor = self.trunk(part)
                out.backward(gradient[start : start + len(out)])
            start += len(out)


def _random_state() -> tuple[Tensor, list[Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda


@contextmanager
def _replayed(state: tuple[Tensor, list[Tensor]]) -> Iterator[None]:
    """Random numbers as they were: dropout must drop in the second pass what it did in the first."""
    cpu, cuda = state
    with torch.random.fork_rng(devices=range(len(cuda))):
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        yield
