"""How many features are active: L0, density, dead features, counted batch by batch.

Definitions: Sparse CLIP, arXiv 2601.20075 (L0 and active features in its Table 3a, at threshold
0.001). None of these figures means anything without its threshold and its set, so both go along.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparse_encoder.errors import SparsightError

THRESHOLDS = (0.0, 0.001)


@dataclass(frozen=True)
class Sparsity:
    """Figures of one set at one threshold: a feature is active where its activation is above it."""

    threshold: float  # in raw activations
    n_inputs: int
    l0: float  # mean number of active features an input
    density: float  # l0 / features, [0, 1]
    active_features: int  # active on `min_inputs` inputs or more
    dead_features: int  # active on none
    min_inputs: int
    empty_inputs: int  # with no active feature at all


@dataclass
class SparsityStats:
    """Running counts over one set. Holds (features,) a threshold, whatever the number of inputs."""

    n_features: int
    thresholds: Sequence[float] = THRESHOLDS
    n_inputs: int = 0
    count: dict[float, Tensor] = field(default_factory=dict)  # inputs with the feature active
    empty: dict[float, int] = field(default_factory=dict)
    total: Tensor = field(init=False)  # (features,) sum of activations, float64
    has_negative: bool = False  # as a dense head's codes do: means then say nothing of modality

    def __post_init__(self) -> None:
        self.total = torch.zeros(self.n_features, dtype=torch.float64)
        for threshold in self.thresholds:
            self.count[threshold] = torch.zeros(self.n_features, dtype=torch.int64)
            self.empty[threshold] = 0

    def add(self, code: Tensor) -> None:
        """code: (batch, features), un-normalised."""
        if code.shape[1] != self.n_features:
            raise ValueError(f"codes of {code.shape[1]} features, expected {self.n_features}")
        for threshold in self.thresholds:
            active = code > threshold
            self.count[threshold] += active.sum(0).cpu()
            self.empty[threshold] += int((~active.any(1)).sum())
        self.total += code.double().sum(0).cpu()
        self.has_negative = self.has_negative or bool((code < 0).any())
        self.n_inputs += len(code)

    def summary(self, threshold: float, min_inputs: int = 2) -> Sparsity:
        """min_inputs: 2 as for Clarity, whose pairs need two; the paper names no other cut."""
        self._refuse_nothing()
        count = self.count[threshold]
        l0 = float(count.double().sum() / self.n_inputs)
        return Sparsity(
            threshold=threshold,
            n_inputs=self.n_inputs,
            l0=l0,
            density=l0 / self.n_features,
            active_features=int((count >= min_inputs).sum()),
            dead_features=int((count == 0).sum()),
            min_inputs=min_inputs,
            empty_inputs=self.empty[threshold],
        )

    def density(self, threshold: float) -> Tensor:
        """Share of inputs with each feature active, (features,) float64 in [0, 1]."""
        self._refuse_nothing()
        return self.count[threshold].double() / self.n_inputs

    def mean_activation(self) -> Tensor:
        """Mean activation of each feature over all inputs, zeros included, (features,) float64.

        "Magnitude-weighted frequency" on the paper's Figure 3b; its exact scale is not stated.
        """
        self._refuse_nothing()
        return self.total / self.n_inputs

    def _refuse_nothing(self) -> None:
        if not self.n_inputs:
            raise SparsightError(
                "no input was counted, so there is no sparsity; give a set with at least one",
                param="data",
            )
