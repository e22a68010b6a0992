"""What can be calibrated, and what is refused by name."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from vlm.dose_target import (
    concept_targets,
    feature_targets,
    labelled_concepts,
    sampled_features,
)

Encode = Callable[[list[str]], Tensor]


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([1, 5], ["never fire", "5 (ghost)"]),
        ([12], ["outside 0..11", "12"]),
        ([-1], ["outside", "-1"]),
        ([8], ["without a name", "8"]),
        ([5] * 7, ["and 2 more"]),
    ],
)
def test_features_that_cannot_be_calibrated_are_named(
    tiny_atlas: FeatureAtlas, features: Sequence[int], words: list[str]
) -> None:
    with pytest.raises(SparsightError) as refused:
        feature_targets(tiny_atlas, features)
    assert refused.value.param == "feature"
    assert [word for word in words if word not in refused.value.message] == []


@pytest.mark.parametrize(
    ("concept", "word"),
    [
        ("zebra", "no concept named 'zebra'"),
        ("phantom", "no live feature"),  # its only feature never fires
        ("", "word or phrase"),
    ],
)
def test_concepts_that_cannot_be_calibrated_are_named(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode, concept: str, word: str
) -> None:
    with pytest.raises(SparsightError, match=word) as refused:
        concept_targets([concept], tiny_atlas, fake_encode_text)
    assert refused.value.param == "concepts"


def test_concepts_are_taken_once_and_as_edits_write_them(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    targets = concept_targets(["Dog", " dog", "cat"], tiny_atlas, fake_encode_text, k=2)
    assert [target.key for target in targets] == [("dog", 2, None), ("cat", 2, None)]
    edit = targets[0].edit(0.5)
    assert (edit.op, edit.concept, edit.k, edit.value, edit.unit) == ("clamp", "dog", 2, 0.5, "p99")


def test_labels_that_are_no_concepts_are_left_out(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    targets = labelled_concepts(
        ["dog", None, "zebra", "phantom", "Cat", "dog"], tiny_atlas, fake_encode_text
    )
    assert [target.name for target in targets] == ["cat", "dog"]


def test_sampled_features_are_alive_named_and_begin_with_the_verified(
    tiny_atlas: FeatureAtlas,
) -> None:
    n, none = tiny_atlas.n_features, [float("nan")] * tiny_atlas.n_features
    trust = ["verified" if i in (3, 6) else "doubtful" for i in range(n)]
    numbers = dict.fromkeys(
        ("trust_auc", "trust_low", "trust_high", "mean", "clarity", "monosemanticity", "name_lift"),
        none,
    )
    judged = replace(
        tiny_atlas, trust=trust, trust_positives=[0] * n, description=[""] * n,
        named_by=[""] * n, near_head=[[]] * n, near_active=[[]] * n, **numbers,
    )  # type: ignore[arg-type]  # fmt: skip
    found = [target.feature for target in sampled_features(judged, 4, seed=1)]
    assert set(found[:2]) == {3, 6}
    assert set(found) <= {0, 1, 2, 3, 4, 6, 7}
    assert found == [target.feature for target in sampled_features(judged, 4, seed=1)]
    assert len(sampled_features(judged, 99)) == 7
