"""A photograph's code as a person reads it: its features by name, strongest first."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes


@dataclass(frozen=True)
class StrongFeature:
    """One active feature of a photograph."""

    feature: int
    name: str  # "" where the feature has none
    activation: float  # in the global code, raw units
    p99: float | None  # the same in multiples of the feature's p99; None where it is dead
    share: float  # of the global code's squared norm, [0, 1]


def strongest_features(codes: Codes, atlas: FeatureAtlas, top: int) -> tuple[StrongFeature, ...]:
    """The `top` strongest features of the one photograph of `codes`, by raw activation.

    Fewer where fewer are active; ties go to the smaller index.
    """
    index, value = global_entries(codes)
    squared_norm = float(value.double().square().sum())
    order = value.argsort(descending=True, stable=True)[:top]
    return tuple(
        StrongFeature(
            feature=feature,
            name=atlas.names[feature],
            activation=activation,
            p99=in_p99(activation, atlas, feature),
            share=activation**2 / squared_norm,
        )
        for feature, activation in zip(index[order].tolist(), value[order].tolist(), strict=True)
    )


def in_p99(activation: float, atlas: FeatureAtlas, feature: int) -> float | None:
    """The activation in multiples of the feature's p99; None where it is dead."""
    p99 = float(atlas.p99[feature])
    return activation / p99 if p99 > 0 else None


def global_entries(codes: Codes) -> tuple[Tensor, Tensor]:
    """Active features and their activations in the global code of the first photograph, (n,) each."""
    n_active = int(codes.offset[1])
    return codes.index[:n_active], codes.value[:n_active]


def global_code(codes: Codes) -> Tensor:
    """The global code of the first photograph, dense (features,)."""
    index, value = global_entries(codes)
    return torch.zeros(codes.n_features).index_put((index,), value)
