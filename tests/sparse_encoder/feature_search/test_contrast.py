"""Features that tell images apart are those whose votes differ."""

import numpy as np
import pytest
import torch

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_search.contrast import contrast


def an_atlas() -> FeatureAtlas:
    """Five features, p99 2 and p50 1, each on a tenth of the images; the last is dead."""
    live = np.array([1, 1, 1, 1, 0], dtype=np.float32)
    return FeatureAtlas(
        fingerprint="a" * 64,
        names=["a", "b", "c", "d", "e"],
        runner_up=[[] for _ in range(5)],
        name_score=live,
        density=live / 10,
        p50=live,
        p90=live * 1.5,
        p99=live * 2,
        max=live * 3,
        modality=live,
        vocabulary=frozenset("abcde"),
    )


def codes(*rows: list[float], cells: int = 0) -> Codes:
    return Codes.from_dense(torch.tensor(rows), (1, cells) if cells else (0, 0))


def test_a_vote_is_the_activation_in_p99_and_at_most_one() -> None:
    on = codes([1.0, 50.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0, 0.0])
    off = codes([0.5, 0.0, 2.0, 0.0, 0.0])
    (found,) = contrast(an_atlas(), [on], [off])  # a: a quarter on both sides, so no contrast
    assert (found.feature, found.contrast, found.on, found.off) == (1, 1.0, 1.0, 0.0)
    assert (found.share_on, found.share_off) == (1.0, 0.0)


def test_features_that_are_weaker_on_than_off_are_left_out() -> None:
    found = contrast(an_atlas(), [codes([2.0, 1.0, 0, 0, 0])], [codes([0.5, 2.0, 0, 0, 0])])
    assert [c.feature for c in found] == [0]
    assert found[0].contrast == pytest.approx(1.0 - 0.25)


def test_of_equal_contrasts_the_stronger_activation_in_p99_goes_first() -> None:
    found = contrast(an_atlas(), [codes([3.0, 8.0, 2.0, 5.0, 0])], [codes([0.0] * 5)])
    assert [c.contrast for c in found] == [1.0] * 4
    assert [c.feature for c in found] == [1, 3, 0, 2]


def test_a_dead_feature_never_tells_images_apart() -> None:
    assert contrast(an_atlas(), [codes([0, 0, 0, 0, 9.0])], [codes([0, 0, 0, 0, 0.0])]) == []


def test_without_images_to_be_off_on_the_reference_set_stands_in() -> None:
    (found,) = contrast(an_atlas(), [codes([2.0, 0, 0, 0, 0])])
    assert found.off == pytest.approx(0.1 * 0.5)  # density times p50 / p99
    assert found.share_off == pytest.approx(0.1)


def test_cells_do_not_vote() -> None:
    with_cells = codes([0.0, 2, 0, 0, 0], [2.0, 2, 0, 0, 0], [2.0, 2, 0, 0, 0], cells=2)
    found = contrast(an_atlas(), [with_cells], [codes([0.0, 0, 0, 0, 0])])
    assert [c.feature for c in found] == [1]


def test_images_in_one_batch_count_like_images_one_by_one() -> None:
    rows = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) * 3
    apart = [Codes.from_dense(row[None]) for row in rows]
    assert contrast(an_atlas(), [Codes.cat(apart[:4])], [Codes.cat(apart[4:])]) == contrast(
        an_atlas(), apart[:4], apart[4:]
    )


@pytest.mark.parametrize(
    ("on", "off", "words", "param"),
    [
        ([], [codes([1.0] * 5)], "no image", "on"),
        ([codes([1.0] * 6)], [], "6 features, the atlas 5", "on"),
        ([codes([1.0] * 5)], [codes([1.0] * 4)], "4 features, the atlas 5", "off"),
    ],
)
def test_no_images_and_images_of_another_model_are_refused(
    on: list[Codes], off: list[Codes], words: str, param: str
) -> None:
    with pytest.raises(SparsightError, match=words) as caught:
        contrast(an_atlas(), on, off)
    assert caught.value.param == param
