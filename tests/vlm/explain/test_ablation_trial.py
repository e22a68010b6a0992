"""Features taken out of codes, and the random ones beside them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.codes import Codes
from vlm.edits import Edit
from vlm.explain.ablation_trial import ablated, losses, magnitudes, matched_active, try_out
from vlm.explain.captioner import Captioner
from vlm.explain.word_place import WordPlace
from vlm.pipeline import Pipeline

PLACE = WordPlace(None, (70, 71), (75,))


@given(seed=st.integers(0, 10**6), features=st.lists(st.integers(0, 7), max_size=8))
def test_ablated_codes_are_the_dense_ones_with_columns_at_zero(
    seed: int, features: list[int]
) -> None:
    rows = torch.randn(10, 8, generator=torch.Generator().manual_seed(seed)).relu()
    codes = Codes.from_dense(rows, (2, 2))  # two photographs
    rows[:, features] = 0
    assert ablated(codes, features).sha256() == Codes.from_dense(rows, (2, 2)).sha256()


def test_ablating_is_what_the_steering_edit_does(tiny: Pipeline, codes: Codes) -> None:
    live = [int(j) for j in codes.index.unique() if not tiny.atlas.dead[int(j)]][:3]
    edits = [Edit("ablate", feature=feature) for feature in live]
    assert ablated(codes, live).sha256() == tiny.steer(codes, edits).codes.sha256()


def test_magnitude_is_the_global_activation_plus_the_mean_over_cells(codes: Codes) -> None:
    dense = codes.dense()
    torch.testing.assert_close(magnitudes(codes), dense[0] + dense[1:].mean(0))


@given(seed=st.integers(0, 10**6))
def test_random_features_are_active_near_in_size_distinct_and_none_of_the_taken(seed: int) -> None:
    size = torch.linspace(0, 10, 101)
    found = matched_active(size, 50, [49, 51], 8, np.random.default_rng(seed))
    assert len(set(found)) == 8 and not {49, 50, 51} & set(found)
    assert all(3.5 < float(size[j]) < 6.5 for j in found)  # sixteen nearest of a hundred


def test_where_few_are_active_few_random_features_are_drawn() -> None:
    size = torch.tensor([0.0, 2.0, 3.0, 0.0])
    assert matched_active(size, 1, [], 8, np.random.default_rng(0)) == (2,)
    assert matched_active(size, 1, [2], 8, np.random.default_rng(0)) == ()


def test_losses_are_differences_of_log_probabilities(codes: Codes, captioner: Captioner) -> None:
    sets = [[int(codes.index[0])], [int(codes.index[1]), int(codes.index[2])], []]
    before = captioner.log_probs(codes, PLACE.before, PLACE.tokens)
    plain = [
        float(before - captioner.log_probs(ablated(codes, one), PLACE.before, PLACE.tokens))
        for one in sets
    ]
    assert losses(codes, captioner, PLACE, sets) == pytest.approx(plain, abs=1e-4)
    assert plain[2] == 0


def test_a_trial_captions_the_photograph_without_the_features(
    codes: Codes, captioner: Captioner
) -> None:
    everything = codes.index.unique().tolist()
    nothing, all_of_it = try_out(codes, captioner, PLACE, "dog", [[], everything])
    assert nothing.caption == captioner.text(captioner.captions(codes)[0])
    assert all_of_it.caption != nothing.caption
    assert try_out(codes, captioner, PLACE, "dog", []) == []
