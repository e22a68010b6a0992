import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.evaluation.modality import (
    N_DENSITY_BINS,
    N_MODALITY_BINS,
    modality_scores,
    modality_summary,
)

means = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.3, 2.0]), st.sampled_from([0.0, 0.004, 0.3, 5.0])),
    max_size=12,
)


@given(means=means)
def test_the_summary_equals_a_loop_over_features(means: list[tuple[float, float]]) -> None:
    image = torch.tensor([i for i, _ in means], dtype=torch.float64)
    text = torch.tensor([t for _, t in means], dtype=torch.float64)
    live = [(i / (i + t), (i + t) / 2) for i, t in means if i + t > 0]
    both = [(score, weight) for score, weight in live if 0.1 <= score <= 0.9]
    found = modality_summary(image, text)
    assert found.n_features == len(live)
    assert found.image_only == sum(score == 1 for score, _ in live)
    assert found.text_only == sum(score == 0 for score, _ in live)
    assert sum(found.scores.counts) == sum(map(sum, found.by_density)) == len(live)
    if not live:
        assert found.multimodal_share is None and found.multimodal_share_weighted is None
        return
    assert found.multimodal_share == pytest.approx(len(both) / len(live))
    total = sum(weight for _, weight in live)
    assert found.multimodal_share_weighted == pytest.approx(sum(w for _, w in both) / total)
    # The map's columns are the histogram of scores, and its rows hold what their edges say.
    assert [sum(column) for column in zip(*found.by_density, strict=True)] == found.scores.counts
    for row in range(N_DENSITY_BINS):
        low, high = found.density_edges[row], found.density_edges[row + 1]
        inside = sum(low * (1 - 1e-9) <= weight <= high * (1 + 1e-9) for _, weight in live)
        assert sum(found.by_density[row]) <= inside


def test_scores_of_0_and_1_lie_in_the_first_and_the_last_bin() -> None:
    found = modality_summary(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([2.0, 0.0, 1.0]))
    assert found.scores.counts[0] == found.scores.counts[-1] == 1
    assert found.scores.counts[N_MODALITY_BINS // 2] == 1
    assert (found.image_only, found.text_only) == (1, 1)


def test_sets_need_not_be_equally_large() -> None:
    score = modality_scores(torch.tensor([3.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]))
    assert score[:2].tolist() == [0.75, 0.0]
    assert score[2].isnan()
