"""What edits changed, held apart from the codes: the digest, the norms and the soft tokens of both."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.codes import Codes
from vlm.apply import apply_edits
from vlm.changes import Change, EditedCodes
from vlm.concepts import ResolvedEdit
from vlm.edits import Edit
from vlm.projector import MOST_TIMES, Projector, ProjectorConfig

N_FEATURES, GRID = 12, (3, 3)
seeds = st.integers(0, 2**31 - 1)


def random_rows(seed: int, n_images: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(n_images * 10, N_FEATURES, generator=random) - 0.5).relu()


def random_change(seed: int, rows: Tensor) -> Change:
    """Of some features of one image's rows (10, features)."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randperm(N_FEATURES, generator=random)[:4].sort().values
    after = (torch.randn(10, 4, generator=random)).relu()
    return Change(tuple(features.tolist()), rows[:, features], after)


def edited(seed: int) -> tuple[EditedCodes, Tensor]:
    """Two images of which the second is changed, and the dense rows that come of it."""
    rows = random_rows(seed)
    change = random_change(seed + 1, rows[10:])
    codes = EditedCodes(Codes.from_dense(rows, GRID), (None, change))
    rows[10:, list(change.features)] = change.after
    return codes, rows


@given(seed=seeds)
def test_the_codes_written_out_are_those_of_the_dense_rows(seed: int) -> None:
    found, rows = edited(seed)
    assert found.codes.sha256() == Codes.from_dense(rows, GRID).sha256()


@given(seed=seeds)
def test_columns_and_squared_norms_are_those_of_the_dense_rows(seed: int) -> None:
    rows = random_rows(seed)
    rows[3] = 0.0  # an empty row
    codes = Codes.from_dense(rows, GRID)
    features = torch.randperm(N_FEATURES, generator=torch.Generator().manual_seed(seed))[:5]
    assert torch.equal(codes.columns(features.tolist()), rows[:, features])
    assert codes.columns([]).shape == (20, 0)
    torch.testing.assert_close(codes.squared_norms(), rows.double().square().sum(1))
    nothing = Codes.from_dense(torch.zeros(10, N_FEATURES), GRID)
    assert not nothing.columns([0, 11]).any() and not nothing.squared_norms().any()


@given(seed=seeds)
def test_rows_that_are_equal_have_equal_norms_wherever_they_stand(seed: int) -> None:
    rows = random_rows(seed)
    rows[4] = rows[15] = rows[7]
    norms = Codes.from_dense(rows, GRID).squared_norms()
    assert norms[4] == norms[7] == norms[15]


@given(seed=seeds)
def test_soft_tokens_moved_by_the_change_are_those_of_the_edited_codes(seed: int) -> None:
    torch.manual_seed(0)
    projector = Projector(ProjectorConfig(N_FEATURES, 8, GRID, (3, 3)))
    torch.nn.init.normal_(projector.second.weight, std=0.3)
    found, rows = edited(seed)
    change = found.changes[1]
    assert change is not None
    sums = projector.sums(found.base)
    moved = projector.edited_sums(sums[1:], change, GRID)
    plain = projector.forward_dense(rows.view(2, 10, N_FEATURES), GRID)
    torch.testing.assert_close(projector.finish(moved), plain[1:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(projector(found.codes), plain, rtol=1e-5, atol=1e-5)


@given(seed=seeds)
def test_norms_are_those_of_the_global_codes(seed: int) -> None:
    found, rows = edited(seed)
    before = found.base.dense()[::10].norm(dim=1).tolist()
    after = rows[::10].norm(dim=1).tolist()
    assert found.global_norms() == [
        (pytest.approx(b, rel=1e-5), pytest.approx(a, rel=1e-5))
        for b, a in zip(before, after, strict=True)
    ]
    assert found.global_norms()[0][0] == found.global_norms()[0][1]


def test_codes_that_nothing_changed_are_the_same_object_with_the_same_digest() -> None:
    codes = Codes.from_dense(random_rows(0), GRID)
    found = EditedCodes.unchanged(codes)
    assert found.codes is codes and found.sha256() == codes.sha256()


def altered(found: EditedCodes) -> list[EditedCodes]:
    """Each differs from `found` in one thing."""
    (_, change), base = found.changes, found.base
    assert change is not None
    after = change.after.clone()
    after[9, 3] += 1e-6
    other = (*change.features[:-1], (change.features[-1] + 1) % N_FEATURES)
    moved = Codes(base.index, base.value * 1.000001, base.offset, base.n_features, base.grid)
    return [
        replace(found, changes=(None, replace(change, after=after))),
        replace(found, changes=(None, replace(change, features=other))),
        replace(found, changes=(change, None)),
        replace(found, changes=(change, change)),
        replace(found, changes=(None, None)),
        replace(found, base=moved),
    ]


@given(seed=seeds)
def test_whatever_differs_has_another_digest(seed: int) -> None:
    found, _ = edited(seed)
    digests = {found.sha256(), *(other.sha256() for other in altered(found))}
    assert len(digests) == 7
    assert replace(found).sha256() == found.sha256()


def resolved(op: str, *features: int, value: float | None = None) -> ResolvedEdit:
    edit = Edit(op, concept="x", value=value, k=len(features))  # type: ignore[arg-type]
    doses = (value or 0.0,) * len(features)
    return ResolvedEdit(edit, features, ("",) * len(features), doses, doses)


@given(seed=seeds)
def test_edits_of_distinct_features_have_one_digest_in_any_order(seed: int) -> None:
    codes = Codes.from_dense(random_rows(seed), GRID)
    edits = [
        resolved("ablate", 3, 1),
        resolved("clamp", 7, value=2.0),
        resolved("add", 0, value=1.0),
    ]
    assert len({digest_of(codes, order) for order in permutations(edits)}) == 1


def test_what_an_edit_left_as_it_was_is_no_change() -> None:
    rows = random_rows(0, n_images=1)
    rows[:, 2] = 0.7
    same = float(rows[0, 2])
    codes = Codes.from_dense(rows, GRID)
    found, _ = apply_edits(codes, [resolved("clamp", 2, value=same), resolved("ablate", 5)])
    (change,) = found.changes
    assert change is not None and change.features == (5,)
    nothing, _ = apply_edits(codes, [resolved("clamp", 2, value=same)])
    assert nothing.changes == (None,)


def digest_of(codes: Codes, edits: Sequence[ResolvedEdit]) -> str:
    return apply_edits(codes, edits)[0].sha256()


def ablated_and_clamped(seed: int, dose: float = 0.1) -> EditedCodes:
    """One image: two features ablated, in part of it one more, and one put in where those two were."""
    codes = Codes.from_dense(random_rows(seed, n_images=1), GRID)
    left = replace(resolved("ablate", 9).edit, region=(0.0, 0.0, 0.4, 1.0))
    edits = [
        resolved("ablate", 3, 1),
        replace(resolved("ablate", 9), edit=left),
        resolved("clamp", 7, value=dose),
    ]
    return apply_edits(codes, edits)[0]


def plainly_edited(projector: Projector, found: EditedCodes, removal: float) -> Tensor:
    """The twin of `Projector.edited_sums`, token by token: (tokens, hidden)."""
    edited = projector.sums(found.codes)[0]
    change = found.changes[0]
    assert change is not None
    if change.removed is None:
        return edited
    taken = torch.zeros(10, N_FEATURES)
    taken[:, list(change.features)] = change.removed
    out = []
    for token, brought in zip(
        edited, projector.sums(Codes.from_dense(taken, GRID))[0], strict=True
    ):
        size = float(brought.norm())
        if size > 0:
            direction = brought / size
            left = max(0.0, float(token @ direction))
            token = token - min(removal * left, MOST_TIMES * size) * direction
        out.append(token)
    return torch.stack(out)


@given(seed=seeds, removal=st.sampled_from([0.0, 1.0, 2.0, 100.0]))
def test_what_is_left_of_the_ablated_is_taken_away_as_the_projector_says(
    seed: int, removal: float
) -> None:
    torch.manual_seed(0)
    projector = Projector(ProjectorConfig(N_FEATURES, 8, GRID, (3, 3), removal)).requires_grad_(
        False
    )
    found = ablated_and_clamped(seed)
    (change,) = found.changes
    assert change is not None
    moved = projector.edited_sums(projector.sums(found.base), change, GRID)
    plain = plainly_edited(projector, found, removal)
    torch.testing.assert_close(moved[0], plain, rtol=1e-4, atol=1e-5)
    if not removal:
        torch.testing.assert_close(moved, projector.sums(found.codes), rtol=1e-4, atol=1e-5)


@given(seed=seeds)
def test_with_a_removal_of_one_nothing_is_left_in_the_direction_of_the_ablated(seed: int) -> None:
    torch.manual_seed(0)
    projector = Projector(ProjectorConfig(N_FEATURES, 8, GRID, (3, 3), 1.0)).requires_grad_(False)
    codes = Codes.from_dense(random_rows(seed, n_images=1), GRID)
    (change,) = apply_edits(codes, [resolved("ablate", 3, 1, 5)])[0].changes
    if change is None or change.removed is None:
        return
    taken = torch.zeros(10, N_FEATURES)
    taken[:, list(change.features)] = change.removed
    brought = projector.sums(Codes.from_dense(taken, GRID))
    edited = projector.edited_sums(projector.sums(codes), change, GRID)
    direction = torch.nn.functional.normalize(brought, dim=-1)
    zeros = projector.sums(codes) - brought
    left, was = (edited * direction).sum(-1), (zeros * direction).sum(-1)
    free = was < MOST_TIMES * brought.norm(dim=-1)
    assert bool((left[free] < 1e-4).all())
    torch.testing.assert_close(left[~free], (was - MOST_TIMES * brought.norm(dim=-1))[~free])


@given(seed=seeds)
def test_what_stands_in_the_place_of_the_ablated_leaves_nothing_to_take_away(seed: int) -> None:
    change = ablated_and_clamped(seed, dose=8.0).changes[0]
    assert change is not None
    put_in = (change.after > change.before).any(1)
    assert change.removed is None or not change.removed[put_in].any()
    alone = Codes.from_dense(random_rows(seed, n_images=1), GRID)
    (whole,) = apply_edits(alone, [resolved("ablate", 3, 1)])[0].changes
    if whole is not None:
        assert whole.removed is not None
        assert torch.equal(whole.removed, whole.before - whole.after)


@given(seed=seeds, dose=st.floats(0.0, 0.5))
def test_the_more_is_put_in_the_less_is_taken_away(seed: int, dose: float) -> None:
    def removed(dose: float) -> Tensor:
        (change,) = ablated_and_clamped(seed, dose).changes
        if change is None or change.removed is None:
            return torch.zeros(())
        return change.removed.sum()

    assert removed(dose) <= removed(0.0) + 1e-6


@given(seed=seeds)
def test_a_scale_by_zero_is_no_more_than_zeros(seed: int) -> None:
    codes = Codes.from_dense(random_rows(seed, n_images=1), GRID)
    scaled, _ = apply_edits(codes, [resolved("scale", 3, 1, value=0.0)])
    ablated, _ = apply_edits(codes, [resolved("ablate", 3, 1)])
    assert scaled.codes.sha256() == ablated.codes.sha256()
    assert all(change is None or change.removed is None for change in scaled.changes)
    # The soft tokens of the two differ, so nothing may take one for the other.
    assert (scaled.sha256() == ablated.sha256()) == (scaled.changes == (None,))
