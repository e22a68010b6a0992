"""Edits at work on the codes of one request, image by image.

Edits apply in list order. Where they reach is reach.py's matter: it looks at the codes before any
edit, so that edits on distinct features give the same codes in any order. What comes out is what the
edits changed (changes.py), made from the columns of the features that they touch.

An ablated concept takes those of its pool (pools.py) that the photograph shows, by what each adds to its
likeness to the word: activation times activation in the text code. That is told from the code alone,
so whoever has photograph and model gets the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from vlm.changes import Change, EditedCodes
from vlm.concepts import ResolvedEdit
from vlm.edits import Op, refuse_missing_image
from vlm.reach import DEFAULT_REACH, Reach, inside_share, reach, region_cells

# What is put in, as a share of what was taken, from which on nothing more is taken away.
ENOUGH_IN_ITS_PLACE = 0.25


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
) -> tuple[EditedCodes, tuple[AppliedEdit, ...]]:
    """What the edits change in the codes of one request's images, and what each did.

    The latter by image, edit and feature. Raises SparsightError where an edit names an image that is
    not there, or two edits meet at one feature of one cell.
    """
    for i, item in enumerate(resolved):
        refuse_missing_image(item.edit, codes.n_images, f"{param}[{i}]")
    changes: list[Change | None] = []
    applied: list[AppliedEdit] = []
    for image in range(codes.n_images):
        change = None
        here = [(i, item) for i, item in enumerate(resolved) if item.edit.image in (None, image)]
        if here:
            rows = codes.image(image)
            here = [(i, _of_what_is_shown(item, rows)) for i, item in here]
            _refuse_shared_cells(here, codes.grid, param)
            change, done = _edit_image(rows, here, image, reach)
            applied += done
        changes.append(change)
    return EditedCodes(codes, tuple(changes)), tuple(applied)


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


def _of_what_is_shown(item: ResolvedEdit, rows: Codes) -> ResolvedEdit:
    """The edit with as many features of its pool as it has, those that one image shows most.

    In its region, where it has one. Of equals, such as those that are not there, the larger claims.
    """
    if not item.pool:
        return item
    pool = [one.feature for one in item.pool]  # of a kind word a thousand and more
    if item.edit.region is None or not rows.n_cells:
        shown = rows.global_only().columns(pool)[0]
    else:
        cells = rows.columns(pool)[1:]  # (cells, pool)
        shown = cells[region_cells(item.edit.region, rows.grid)].mean(0)
    adds = shown * torch.tensor([one.text for one in item.pool])
    k = len(item.features)
    places = adds.argsort(descending=True, stable=True)[:k].sort().values
    chosen = [item.pool[j] for j in places.tolist()]
    features, names = tuple(c.feature for c in chosen), tuple(c.name for c in chosen)
    return replace(item, features=features, names=names)


def _edit_image(
    rows: Codes, here: list[tuple[int, ResolvedEdit]], image: int, rule: Reach
) -> tuple[Change | None, list[AppliedEdit]]:
    """What the edits change in one image, None where none changed a value."""
    touched = sorted({feature for _, item in here for feature in item.features})
    place = {feature: j for j, feature in enumerate(touched)}
    before = rows.columns(touched)  # (1 + cells, touched)
    masks = _masks(rows, dict(zip(touched, before[1:].T, strict=True)), here, rule)
    after, applied = before.clone(), []
    removed = torch.zeros_like(before)
    for (i, item), mask in zip(here, masks, strict=True):
        columns = [place[feature] for feature in item.features]
        old = after[:, columns]  # (1 + cells, features of this edit)
        new = _edit_columns(old, item, mask)
        after[:, columns] = new
        if item.edit.op == "ablate":
            removed[:, columns] += old - new
        is_scale = item.edit.op == "scale"
        moved = (new[1:] != old[1:]).sum(0).tolist()
        applied += [
            AppliedEdit(
                edit=i,
                image=image,
                feature=feature,
                name=name,
                op=item.edit.op,
                dose_raw=None if is_scale else raw,
                dose_p99=None if is_scale else p99,
                factor=raw if is_scale else None,
                before=was,
                after=now,
                cells_changed=n_cells,
            )
            for feature, name, raw, p99, was, now, n_cells in zip(
                item.features, item.names, item.raw_values, item.p99_values,
                old[0].tolist(), new[0].tolist(), moved, strict=True,
            )
        ]  # fmt: skip
    changed = (after != before).any(0).nonzero()[:, 0]
    if not len(changed):
        return None, applied
    features = tuple(touched[j] for j in changed.tolist())
    removed = _with_nothing_in_its_place(removed, before, after)[:, changed]
    taken = removed if removed.any() else None
    return Change(features, before[:, changed], after[:, changed], taken), applied


def _with_nothing_in_its_place(removed: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """What ablations took, less in each row the more other edits put in. All (1 + cells, n).

    A dog in the place of a cat hides what is left of the cat by itself; and to be pushed away from
    the cat is to be pushed away from the dog too, for much of one is in the other.
    """
    raised = (after - before).clamp(min=0).sum(1)
    share = raised / removed.sum(1).clamp(min=1e-12)  # where nothing was taken, of no matter
    return removed * (1 - share / ENOUGH_IN_ITS_PLACE).clamp(min=0)[:, None]


def _edit_columns(old: Tensor, item: ResolvedEdit, mask: Tensor) -> Tensor:
    """The activations (1 + cells, features) of one edit's features, global first, after it.

    mask: (cells,), those that the edit reaches.
    """
    edit, new = item.edit, old.clone()
    pooled, cells = old[0].double(), old[1:]
    raw = torch.tensor(item.raw_values, dtype=torch.float64)  # (features,)
    here = mask[:, None]
    if edit.op == "add":
        new[1:] = torch.where(here, (cells + raw.float()).clamp(min=0), cells)
        new[0] = (pooled + raw).clamp(min=0)
    elif edit.op == "clamp" and not edit.removes:
        new[1:] = torch.where(here, raw.float(), cells)
        new[0] = raw
    else:
        # ablate is a scale by 0. pooled + (factor - 1) * ... is exact for factor 1 and for a
        # share of 1 with factor 0, which pooled * (1 - share + share * factor) is not.
        factor = raw if edit.op == "scale" else torch.zeros_like(raw)
        share = torch.ones_like(raw)
        if edit.region is not None:
            shares = [inside_share(one, mask, edit.region) for one in cells.T.contiguous()]
            share = torch.tensor(shares, dtype=torch.float64)
        new[1:] = torch.where(here, cells * factor.float(), cells)
        new[0] = pooled + (factor - 1.0) * share * pooled
    return new


def _masks(
    rows: Codes,
    cells: dict[int, Tensor],
    here: list[tuple[int, ResolvedEdit]],
    rule: Reach,
) -> list[Tensor]:
    """The cells (cells,) that each edit reaches, from the rows, and their cells, before any edit."""
    covered = [region_cells(item.edit.region, rows.grid) for _, item in here]
    ablated = [
        (cells[feature] > 0) & mask
        for (_, item), mask in zip(here, covered, strict=True)
        if item.edit.removes
        for feature in item.features
    ]
    placed = reach(rule, rows.n_cells, ablated, lambda: rows.squared_norms()[1:])
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
