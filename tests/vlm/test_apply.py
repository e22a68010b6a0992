"""Edits on codes: laws over random codes, and cases worked out by hand."""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from vlm.apply import AppliedEdit, apply_edits, steering_warnings
from vlm.concepts import ResolvedEdit
from vlm.edits import Edit
from vlm.pools import Candidate
from vlm.reach import Reach

N_FEATURES, GRID = 12, (3, 3)
LEFT = (0.0, 0.0, 0.5, 1.0)  # the first column of a 3 x 3 grid
seeds = st.integers(0, 2**31 - 1)
rules = st.sampled_from(["ablated", "energy", "all"])


def random_codes(seed: int, n_images: int = 2, grid: tuple[int, int] = GRID) -> Codes:
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(n_images * (1 + grid[0] * grid[1]), N_FEATURES, generator=random) - 0.5
    return Codes.from_dense(rows.relu(), grid)


def resolved(op: Any, *features: int, value: float | None = None, **where: Any) -> ResolvedEdit:
    """An edit of raw doses (p99 = 1 for every feature)."""
    edit = Edit(op, concept="x", value=value, k=len(features), **where)
    dose = (value or 0.0,) * len(features)
    return ResolvedEdit(edit, features, ("",) * len(features), dose, dose)


def written(
    codes: Codes, edits: Sequence[ResolvedEdit], **options: Any
) -> tuple[Codes, tuple[AppliedEdit, ...]]:
    """Edited codes in full, and what was done."""
    edited, applied = apply_edits(codes, edits, **options)
    return edited.codes, applied


def bits(codes: Codes) -> list[list[float]]:
    return [codes.index.tolist(), codes.value.tolist(), codes.offset.tolist()]


@st.composite
def edit_lists(draw: st.DrawFn) -> list[ResolvedEdit]:
    """Up to three edits, each on features of its own."""
    features = draw(st.permutations(range(N_FEATURES)))
    out = []
    for i in range(draw(st.integers(1, 3))):
        op = draw(st.sampled_from(["ablate", "clamp", "scale", "add"]))
        value = None if op == "ablate" else draw(st.floats(0, 4))
        region = draw(st.sampled_from([None, LEFT, (0.2, 0.2, 0.3, 0.9), (0.0, 0.5, 1.0, 1.0)]))
        image = draw(st.sampled_from([None, 0, 1]))
        own = features[i * 3 : i * 3 + draw(st.integers(1, 3))]
        out.append(resolved(op, *own, value=value, region=region, image=image))
    return out


@pytest.mark.parametrize(
    ("texts", "region", "taken"),
    [
        ((1.0, 1.0, 1.0, 1.0), None, (5, 7)),  # the most active of the global code
        ((1.0, 1.0, 1.0, 0.1), None, (3, 5)),  # weighed by the text code
        ((1.0, 1.0, 1.0, 1.0), LEFT, (1, 3)),  # the most active of the region's cells
        ((0.0, 0.0, 0.0, 0.0), None, (1, 3)),  # of equals the larger claims
    ],
)
def test_an_ablation_takes_those_of_its_pool_that_the_photograph_shows(
    texts: tuple[float, ...], region: Any, taken: tuple[int, ...]
) -> None:
    rows = torch.zeros(20, N_FEATURES)
    rows[0, [3, 5, 7]] = torch.tensor([0.5, 1.0, 2.0])
    rows[[1, 4, 7], 1] = 1.0  # the left column of cells
    rows[10, [1, 3]] = 1.0  # another photograph, with others of the pool
    codes = Codes.from_dense(rows, GRID)
    edit = resolved("ablate", 1, 3, region=region)
    pool = tuple(Candidate(f, f"f{f}", t) for f, t in zip((1, 3, 5, 7), texts, strict=True))
    edited, applied = written(codes, [replace(edit, pool=pool)])
    assert tuple(done.feature for done in applied if done.image == 0) == taken
    assert [done.name for done in applied if done.image == 0] == [f"f{f}" for f in taken]
    assert tuple(done.feature for done in applied if done.image == 1) == (1, 3)
    plain, _ = written(codes, [resolved("ablate", *taken, region=region, image=0),
                               resolved("ablate", 1, 3, region=region, image=1)])  # fmt: skip
    assert bits(edited) == bits(plain)


@given(seed=seeds)
def test_no_edits_give_the_same_object(seed: int) -> None:
    codes = random_codes(seed)
    edited, applied = written(codes, ())
    assert edited is codes
    assert applied == ()


@given(seed=seeds, region=st.sampled_from([None, LEFT]))
def test_edits_that_change_nothing_are_bit_identical(seed: int, region: Any) -> None:
    rows = random_codes(seed).dense()
    rows[:, 0] = 0.0
    rows[:, 1] = 0.7
    codes = Codes.from_dense(rows, GRID)
    same = float(rows[0, 1])
    edited, applied = written(
        codes,
        [
            resolved("ablate", 0, region=region),
            resolved("clamp", 1, value=same, region=region),
            resolved("scale", 2, 3, value=1.0, region=region),
            resolved("add", 4, 5, value=0.0, region=region),
        ],
    )
    assert bits(edited) == bits(codes)
    assert edited.sha256() == codes.sha256()
    assert all(done.before == done.after and done.cells_changed == 0 for done in applied)


@given(seed=seeds, edits=edit_lists(), rule=rules)
def test_unaffected_features_and_images_keep_every_bit(
    seed: int, edits: list[ResolvedEdit], rule: Reach
) -> None:
    codes = random_codes(seed)
    edited, _ = written(codes, edits, reach=rule)
    before, after = codes.dense(), edited.dense()
    touched = {feature for item in edits for feature in item.features}
    rest = [i for i in range(N_FEATURES) if i not in touched]
    assert torch.equal(before[:, rest], after[:, rest])
    for image in range(2):
        if all(item.edit.image == 1 - image for item in edits):
            assert bits(edited.image(image)) == bits(codes.image(image))


@given(seed=seeds, edits=edit_lists(), rule=rules)
def test_edited_codes_are_well_formed(seed: int, edits: list[ResolvedEdit], rule: Reach) -> None:
    edited, _ = written(random_codes(seed), edits, reach=rule)
    assert (edited.value > 0).all() and edited.value.isfinite().all()
    assert edited.value.dtype == torch.float32 and edited.index.dtype == torch.int64
    assert edited.grid == GRID and edited.n_images == 2
    again = Codes.from_dense(edited.dense(), GRID)
    assert bits(again) == bits(edited)  # ascending, no zeros kept


@given(seed=seeds, features=st.sets(st.integers(0, N_FEATURES - 1), min_size=1))
def test_ablated_features_are_absent_from_every_row(seed: int, features: set[int]) -> None:
    edited, _ = written(random_codes(seed), [resolved("ablate", *features)])
    assert not features & set(edited.index.tolist())


@given(seed=seeds)
def test_an_ablated_region_holds_the_feature_no_more_and_the_rest_keeps_it(seed: int) -> None:
    codes = random_codes(seed)
    edited, _ = written(codes, [resolved("ablate", 3, region=LEFT)])
    before, after = codes.dense().view(2, 10, -1), edited.dense().view(2, 10, -1)
    left, rest = [1, 4, 7], [2, 3, 5, 6, 8, 9]
    assert (after[:, left, 3] == 0).all()
    assert torch.equal(after[:, rest, 3], before[:, rest, 3])
    assert (after[:, 0, 3] <= before[:, 0, 3]).all()


@given(seed=seeds, edits=edit_lists(), rule=rules)
def test_the_order_of_edits_on_distinct_features_does_not_matter(
    seed: int, edits: list[ResolvedEdit], rule: Reach
) -> None:
    codes = random_codes(seed)
    results = {written(codes, order, reach=rule)[0].sha256() for order in permutations(edits)}
    assert len(results) == 1


@given(seed=seeds, edits=edit_lists(), rule=rules)
def test_applied_edits_tell_what_happened(
    seed: int, edits: list[ResolvedEdit], rule: Reach
) -> None:
    codes = random_codes(seed)
    edited, applied = written(codes, edits, reach=rule)
    before, after = codes.dense().view(2, 10, -1), edited.dense().view(2, 10, -1)
    expected = [
        (image, i, feature)
        for image in range(2)
        for i, item in enumerate(edits)
        if item.edit.image in (None, image)
        for feature in item.features
    ]
    assert [(done.image, done.edit, done.feature) for done in applied] == expected
    for done in applied:
        column = slice(None), done.feature
        changed = before[done.image][column][1:] != after[done.image][column][1:]
        assert done.before == float(before[done.image][0, done.feature])
        assert done.after == float(after[done.image][0, done.feature])
        assert done.cells_changed == int(changed.sum())


# One image, 2 x 2 cells, feature 0 = dog on the left, feature 1 = cat nowhere, feature 2 strong
# in the lower right cell.
HAND = torch.tensor(
    [[0.5, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 4.0]]
)


def hand(edits: Sequence[ResolvedEdit], **kwargs: Any) -> Tensor:
    return written(Codes.from_dense(HAND, (2, 2)), edits, **kwargs)[0].dense()


def test_a_clamp_lands_where_the_ablated_feature_was() -> None:
    rows = hand([resolved("ablate", 0), resolved("clamp", 1, value=2.0)])
    assert rows[:, 0].tolist() == [0, 0, 0, 0, 0]
    assert rows[:, 1].tolist() == [2, 2, 0, 2, 0]


@pytest.mark.parametrize("op", ["clamp", "scale"])
def test_a_clamp_lands_where_a_feature_set_to_zero_was(op: str) -> None:
    rows = hand([resolved(op, 0, value=0.0), resolved("clamp", 1, value=2.0)])
    assert rows[:, 0].tolist() == [0, 0, 0, 0, 0]
    assert rows[:, 1].tolist() == [2, 2, 0, 2, 0]


@pytest.mark.parametrize(
    ("rule", "cat"),
    [("ablated", [2, 2, 0, 0, 2]), ("energy", [2, 2, 0, 0, 2]), ("all", [2, 2, 2, 2, 2])],
)
def test_a_lone_clamp_follows_the_rule(rule: Reach, cat: list[float]) -> None:
    rows = hand([resolved("clamp", 1, value=2.0)], reach=rule)
    assert rows[:, 1].tolist() == cat


def test_an_ablation_of_another_image_does_not_draw_the_clamp() -> None:
    codes = Codes.cat([Codes.from_dense(HAND, (2, 2))] * 2)
    edits = [resolved("ablate", 0, image=1), resolved("clamp", 1, value=2.0)]
    rows = written(codes, edits)[0].dense().view(2, 5, 3)
    assert rows[0, :, 1].tolist() == [2, 2, 0, 0, 2]  # energy
    assert rows[1, :, 1].tolist() == [2, 2, 0, 2, 0]  # the dog's cells


@pytest.mark.parametrize(
    ("edit", "column"),
    [
        (resolved("add", 0, value=0.25, region=(0, 0, 0.5, 0.5)), [0.75, 1.25, 0, 1, 0]),
        (resolved("clamp", 0, value=3.0, region=(0.5, 0, 1, 1)), [3, 1, 3, 1, 3]),
        (resolved("scale", 0, value=2.0), [1.0, 2, 0, 2, 0]),
        (resolved("scale", 0, value=2.0, region=(0, 0, 1, 0.5)), [0.75, 2, 0, 1, 0]),
        (resolved("ablate", 0, region=(0, 0, 1, 0.5)), [0.25, 0, 0, 1, 0]),
        (resolved("ablate", 0, region=(0, 0, 0.5, 1)), [0, 0, 0, 0, 0]),
        (resolved("ablate", 0, region=(0.5, 0, 1, 1)), [0.5, 1, 0, 1, 0]),
    ],
)
def test_a_region_weighs_the_global_code_as_the_rule_says(
    edit: ResolvedEdit, column: list[float]
) -> None:
    assert hand([edit])[:, 0].tolist() == column


def test_codes_without_cells_are_edited_by_area() -> None:
    codes = Codes.from_dense(HAND[:1])
    rows = written(codes, [resolved("ablate", 0, region=(0, 0, 0.5, 1))])[0].dense()
    assert rows.tolist() == [[0.25, 0.0, 1.0]]


def test_an_image_that_is_not_there_is_refused() -> None:
    with pytest.raises(SparsightError, match="has 2 image") as caught:
        written(random_codes(0), [resolved("ablate", 0), resolved("ablate", 1, image=2)])
    assert caught.value.param == "steering.edits[1].image"


def test_regions_apart_that_round_to_one_cell_are_refused() -> None:
    edits = [
        resolved("clamp", 3, value=1.0, region=(0.0, 0.0, 0.05, 0.05)),
        resolved("clamp", 3, value=2.0, region=(0.1, 0.0, 0.2, 1.0)),
    ]
    with pytest.raises(SparsightError, match="feature 3 in one cell of the 3 x 3") as caught:
        written(random_codes(0), edits)
    assert caught.value.param == "steering.edits[1].region"


def test_only_one_image_is_dense_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    live: list[weakref.ref[Tensor]] = []
    plain = Codes.dense

    def watched(codes: Codes) -> Tensor:
        assert codes.n_images == 1
        assert not [ref for ref in live if ref() is not None]
        out = plain(codes)
        live.append(weakref.ref(out))
        return out

    monkeypatch.setattr(Codes, "dense", watched)
    written(random_codes(0, n_images=5), [resolved("add", 0, value=1.0)])
    assert len(live) == 5


def test_an_image_without_edits_is_never_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Codes] = []
    plain = Codes.dense
    monkeypatch.setattr(Codes, "dense", lambda codes: (seen.append(codes), plain(codes))[1])
    written(random_codes(0, n_images=5), [resolved("add", 0, value=1.0, image=3)])
    assert len(seen) == 1


def _done(image: int, feature: int, before: float, after: float) -> AppliedEdit:
    return AppliedEdit(0, image, feature, "", "clamp", after, after, None, before, after, 0)


def test_warnings_name_doses_above_the_reference_and_idle_edits(tiny_atlas: FeatureAtlas) -> None:
    applied = [_done(0, 0, 0.0, 9.0), _done(0, 1, 0.0, 0.0), _done(1, 0, 0.0, 0.0)]
    assert steering_warnings(applied, tiny_atlas) == (
        "edit 0 on image 0: feature 0 goes to 9 (raw), above 1.5, the largest of the reference "
        "images",
        "edit 0 on image 1 changed nothing",
    )
