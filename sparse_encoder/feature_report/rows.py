"""What a report says of features: columns over all of them, and the rest of one.

Numbers are rounded to what a screen shows; what an atlas did not measure is left out, what it could
not measure for a feature is null.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.feature_report.pictures import LEVELS, TopPictures
from sparse_encoder.feature_report.quantiles import quantiles
from sparse_encoder.feature_search.card import FeatureCard
from sparse_encoder.features.top_images_file import TopImage, TopImages

N_MAPS = 4  # strongest reference images of a feature whose cell maps go in, 130 bytes each

Neighbours = Callable[[int], Iterable[tuple[int, float]]]  # feature: (feature, cosine), best first

# Shown in a way of their own, or as columns of the table.
_TOLD_APART = frozenset(
    [
        "description",
        "named_by",
        "trust",
        "trust_positives",
        "trust_auc",
        "trust_low",
        "trust_high",
        "near_head",
        "near_active",
        "clarity",
        "monosemanticity",
    ]
)


def table_columns(atlas: FeatureAtlas) -> dict[str, list[Any]]:
    """What the table and the scatter show of every feature, by column."""
    columns: dict[str, list[Any]] = {
        "name": list(atlas.names),
        "density": _short(atlas.density),
        "modality": _short(atlas.modality),
    }
    if atlas.trust is not None:
        columns["trust"] = list(atlas.trust)
    for key in ("trust_low", "clarity", "monosemanticity"):
        if (column := getattr(atlas, key)) is not None:
            columns[key] = _short(column)
    return {**columns, "p99": _short(atlas.p99), "name_score": _short(atlas.name_score)}


def feature_row(
    card: FeatureCard,
    pictures: TopPictures | None,
    neighbours: Neighbours | None,
    top_images: TopImages | None,
) -> dict[str, Any]:
    """What the view of one feature shows beside its columns of the table."""
    more = card.more
    row: dict[str, Any] = {
        "further": list(card.runner_up),
        "quantiles": [[share, short(value)] for share, value in quantiles(card)],
    }
    if neighbours is not None:
        row["near"] = [[j, short(cosine)] for j, cosine in neighbours(card.feature)]
    else:
        row["near"] = [[j, None] for j in more.get("near_head") or ()]
    row["active"] = list(more.get("near_active") or ())
    if more.get("trust") is not None:
        row["description"], row["named_by"] = more["description"], more["named_by"]
        row["test"] = [more["trust_positives"], short(more["trust_auc"]), short(more["trust_high"])]
    row["more"] = {k: short(v) for k, v in more.items() if k not in _TOLD_APART}
    if pictures is not None:
        shown = pictures.of(card.feature)
        row["pictures"] = [[s.picture, short(s.activation), s.cells] for s in shown]
    if top_images is not None:
        row["maps"] = [_map(image) for image in top_images.of(card.feature)[:N_MAPS]]
    return row


def _map(image: TopImage) -> list[Any]:
    """Id, activation, and a byte a cell (0..LEVELS of the strongest) in base64."""
    most = float(image.cells.max(initial=0.0)) or 1.0
    level = (LEVELS * image.cells / most).round().astype(np.uint8)
    return [image.id, short(image.activation), b64encode(level.tobytes()).decode()]


def _short(column: np.ndarray[Any, Any]) -> list[Any]:
    return [short(float(v)) if np.isfinite(v) else None for v in column]


def short(value: Any) -> Any:
    """Four significant digits: more than a screen shows, a third of the bytes."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
