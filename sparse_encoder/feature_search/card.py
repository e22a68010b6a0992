"""All that an atlas knows of one feature, as plain numbers and words."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sparse_encoder.atlas import FeatureAtlas

# Of these a card has fields of its own; every further column of an atlas goes into `more`, and so do
# the doses (p99) of a feature that was calibrated.
_OWN = ("names", "runner_up", "name_score", "density", "p50", "p90", "p99", "max", "modality")


@dataclass(frozen=True)
class FeatureCard:
    """One feature; the fields mean what they mean in `FeatureAtlas`."""

    feature: int
    name: str
    runner_up: tuple[str, ...]
    name_score: float
    density: float
    p50: float
    p90: float
    p99: float
    max: float
    modality: float
    dead: bool
    more: Mapping[str, Any]  # by column; None where the atlas does not know it


def feature_card(atlas: FeatureAtlas, feature: int) -> FeatureCard:
    """The card of a feature of the atlas, which must have it."""
    more = {
        field.name: _plain(column[feature])
        for field in fields(atlas)
        if field.name not in _OWN and _is_column(column := getattr(atlas, field.name), atlas)
    }
    curve = None if atlas.doses is None else atlas.doses.of_feature(feature)
    if curve is not None:
        more |= {"effective": curve.effective, "safe_max": curve.safe_max}
    return FeatureCard(
        feature=feature,
        name=atlas.names[feature],
        runner_up=tuple(atlas.runner_up[feature]),
        name_score=float(atlas.name_score[feature]),
        density=float(atlas.density[feature]),
        p50=float(atlas.p50[feature]),
        p90=float(atlas.p90[feature]),
        p99=float(atlas.p99[feature]),
        max=float(atlas.max[feature]),
        modality=float(atlas.modality[feature]),
        dead=bool(atlas.dead[feature]),
        more=more,
    )


def _is_column(value: Any, atlas: FeatureAtlas) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == atlas.n_features


def _plain(value: Any) -> Any:
    """As JSON has it; a number that is none (not measured) becomes None."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
