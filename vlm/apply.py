"""Edits at work on the codes of one request, image by image.

Edits apply in list order. Where they reach is reach.py's matter: it looks at the codes before any
edit, so that edits on distinct features give the same codes in any order. An image that no edit
changes keeps its rows bit for bit, since they are not even rebuilt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from vlm.concepts import ResolvedEdit
from vlm.edits import Op, refuse_missing_image
from vlm.reach import DEFAULT_REACH, Reach, inside_share, reach, region_cells


@dataclass(frozen=True)
class AppliedEdit:
    """What one edit did to one feature of one image; activations are raw, of the global code."""

    edit: int  # index into the request's edits
    image: int
    feature: int
    name: str
    op: Op
    dose_raw: float | None  # None for scale, whose dose is a factor
    dose_p99: float | None
    factor: float | None  # of scale, else None
    before: float
    after: float
    cells_changed: int


def apply_edits(
    codes: Codes,
    resolved: Sequence[ResolvedEdit],
    *,
    reach: Reach = DEFAULT_REACH,
    param: str = "steering.edits",
) -> tuple[Codes, tuple[AppliedEdit, ...]]:
    """Edited codes of all images of one request, and what was done, by image, edit and feature.

    Holds the dense rows (1 + cells, features) of one image at a time. Without edits, or where
    none changes a value, the very same Codes object comes back. Raises SparsightError where an
    edit names an image that is not there, or two edits meet at one feature of one cell.
    """
    for i, item in enumerate(resolved):
        refuse_missing_image(item.edit, codes.n_images, f"{param}[{i}]")
    parts, applied, changed = [], [], False
    for image in range(codes.n_images):
        rows = codes.image(image)
        here = [(i, item) for i, item in enumerate(resolved) if item.edit.image in (None, image)]
        if here:
            _refuse_shared_cells(here, codes.grid, param)
            edited, done = _edit_image(rows, here, image, reach)
            applied += done
            if edited is not None:
                rows, changed = edited, True
        parts.append(rows)
    return (Codes.cat(parts) if changed else codes), tuple(applied)


def steering_warnings(applied: Sequence[AppliedEdit], atlas: FeatureAtlas) -> tuple[str, ...]:
    """What a user should know though nothing was refused, one line each.

    An activation above the largest of the reference images (no caption was trained on such a
    code), and an edit that found nothing to change in an image.
    """
    out: list[str] = []
    idle: dict[str, bool] = {}
    for done in applied:
        place = f"edit {done.edit} on image {done.image}"
        idle[place] = idle.get(place, True) and done.before == done.after and not done.cells_changed
        most = float(atlas.max[done.feature])
        if done.after > max(most, done.before):
            out.append(
                f"{place}: feature {done.feature} goes to {done.after:.3g} (raw), above "
                f"{most:.3g}, the largest of the reference images"
            )
    return (*out, *(f"{place} changed nothing" for place, nothing in idle.items() if nothing))


def _edit_image(
    rows: Codes, here: list[tuple[int, ResolvedEdit]], image: int, rule: Reach
) -> tuple[Codes | None, list[AppliedEdit]]:
    """The rows of one image after its edits, None where none changed a value."""
    dense = rows.dense()  # (1 + cells, features)
    masks = _masks(dense[1:], here, rows.grid, rule)
    applied, changed = [], False
    for (i, item), mask in zip(here, masks, strict=True):
        factor = item.edit.op == "scale"
        for feature, name, raw, p99 in zip(
            item.features, item.names, item.raw_values, item.p99_values, strict=True
        ):
            old = dense[:, feature].clone()  # (1 + cells,)
            new = _edit_column(old, item, raw, mask)
            dense[:, feature] = new
            changed |= bool((new != old).any())
            applied.append(
                AppliedEdit(
                    edit=i,
                    image=image,
                    feature=feature,
                    name=name,
                    op=item.edit.op,
                    dose_raw=None if factor else raw,
                    dose_p99=None if factor else p99,
                    factor=raw if factor else None,
                    before=float(old[0]),
                    after=float(new[0]),
                    cells_changed=int((new[1:] != old[1:]).sum()),
                )
            )
    return (Codes.from_dense(dense, rows.grid) if changed else None), applied


def _edit_column(column: Tensor, item: ResolvedEdit, raw: float, mask: Tensor) -> Tensor:
    """One feature's activations (1 + cells,), global first, after an edit of the masked cells."""
    edit, new = item.edit, column.clone()
    cells, pooled = column[1:], float(column[0])
    if edit.op == "add":
        new[1:] = torch.where(mask, (cells + raw).clamp(min=0), cells)
        new[0] = max(0.0, pooled + raw)
    elif edit.op == "clamp" and not edit.removes:
        new[1:] = torch.where(mask, raw, cells)
        new[0] = raw
    else:
        # ablate is a scale by 0. pooled + (factor - 1) * ... is exact for factor 1 and for a
        # share of 1 with factor 0, which pooled * (1 - share + share * factor) is not.
        factor = raw if edit.op == "scale" else 0.0
        share = 1.0 if edit.region is None else inside_share(cells, mask, edit.region)
        new[1:] = torch.where(mask, cells * factor, cells)
        new[0] = pooled + (factor - 1.0) * share * pooled
    return new


def _masks(
    cells: Tensor, here: list[tuple[int, ResolvedEdit]], grid: tuple[int, int], rule: Reach
) -> list[Tensor]:
    """The cells (cells,) that each edit reaches, from the cells before any edit."""
    covered = [region_cells(item.edit.region, grid) for _, item in here]
    removed = [
        (feature, mask)
        for (_, item), mask in zip(here, covered, strict=True)
        if item.edit.removes
        for feature in item.features
    ]
    features, within = [feature for feature, _ in removed], [mask for _, mask in removed]
    placed = reach(rule, cells, features, within)
    return [
        placed
        if item.edit.region is None and item.edit.op in ("clamp", "add") and not item.edit.removes
        else mask
        for (_, item), mask in zip(here, covered, strict=True)
    ]


def _refuse_shared_cells(
    here: list[tuple[int, ResolvedEdit]], grid: tuple[int, int], param: str
) -> None:
    """Regions apart may still round to one cell, which only the grid can tell."""
    seen: dict[int, list[tuple[int, Tensor]]] = {}
    for i, item in here:
        mask = region_cells(item.edit.region, grid)
        for feature in item.features:
            for earlier, other in seen.get(feature, []):
                if bool((mask & other).any()):
                    raise SparsightError(
                        f"edits {earlier} and {i} both touch feature {feature} in one cell of the "
                        f"{grid[0]} x {grid[1]} grid; leave one out or draw their regions apart",
                        param=f"{param}[{i}].region",
                        code="edits_collide",
                    )
            seen.setdefault(feature, []).append((i, mask))
