"""All that is known of one feature, a line a fact."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.features.wire import FeatureDetail

N_IMAGES = 4  # strongest reference images that are listed
# Columns of the atlas that have lines of their own.
_TOLD = frozenset(
    [
        "description",
        "named_by",
        "trust",
        "trust_positives",
        "trust_auc",
        "trust_low",
        "trust_high",
        "mean",
        "near_head",
        "near_active",
    ]
)


def feature_sheet(detail: "FeatureDetail", names: Sequence[str]) -> str:
    """names: of all features, for the neighbours that are known by index alone."""
    more = detail.more
    facts: list[tuple[str, object]] = [
        ("feature", detail.feature),
        ("name", detail.name or "- (no word stands out on it)"),
        ("further names", ", ".join(detail.runner_up) or "-"),
        ("text activation", f"{detail.name_score:.3f}"),
        ("density", f"{100 * detail.density:.2f} % of reference images"),
        ("activations", _activations(detail)),
        ("largest", f"{detail.max:.3f}"),
        ("modality", f"{detail.modality:.2f} (1: images only, 0: texts only)"),
    ]
    if detail.dead:
        facts.insert(1, ("dead", "yes: active on no reference image"))
    if more.get("trust") is not None:
        facts += [("description", more["description"]), ("trust", trust_words(more))]
    facts += [(key.replace("_", " "), _value(v)) for key, v in more.items() if key not in _TOLD]
    facts += [("like it", f"{n.cosine:.2f}  #{n.feature} {n.name}") for n in detail.neighbours]
    if more.get("near_active"):
        near = (f"#{j} {names[j]}".rstrip() for j in more["near_active"])
        facts.append(("active with it", ", ".join(near)))
    for image in detail.top_images[:N_IMAGES]:
        row, col = image.strongest
        where = f"strongest in row {row + 1}, column {col + 1} of {image.grid[0]} x {image.grid[1]}"
        facts.append(("strongest on", f"{image.activation:.3f}  {image.id}, {where}"))
    width = max(len(key) for key, _ in facts)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in facts)


def trust_words(more: Mapping[str, Any]) -> str:
    """The verdict, the AUC with its interval, and on how many images it rests."""
    if not more["trust"]:
        return "- (no name to test)"
    images = f"on {more['trust_positives']} held-out images said to show it"
    if more["trust_auc"] is None:
        return f"{more['trust']}: {images}, too few to tell"
    interval = f"{more['trust_low']:.3f} to {more['trust_high']:.3f}"
    by = "what its images show" if more["named_by"] == "images" else "the text tower"
    return f"{more['trust']}: AUC {more['trust_auc']:.3f} ({interval}) {images}; named by {by}"


def _activations(detail: "FeatureDetail") -> str:
    found = f"p50 {detail.p50:.3f}, p90 {detail.p90:.3f}, p99 {detail.p99:.3f}"
    mean = detail.more.get("mean")
    return found if mean is None else f"{found}, mean {mean:.3f}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "not measured" if value is None else json.dumps(value, ensure_ascii=False)
