"""Features and concepts located through the pipeline."""

from dataclasses import replace

import pytest
import torch

from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.concepts import resolve
from vlm.edits import Edit
from vlm.explain.place import locate
from vlm.pipeline import Pipeline


def test_a_concept_is_where_the_features_are_that_steering_takes_for_it(
    tiny: Pipeline, picture: DecodedImage
) -> None:
    edit = Edit("ablate", concept="dog", k=3)
    (resolved,) = resolve([edit], tiny.atlas, tiny.encoder.encode_texts)
    found = locate(tiny, picture, concept="dog", k=3)
    assert found.features == resolved.features and len(found.features) == 3
    alone = sum(locate(tiny, picture, feature=j).cells for j in found.features)
    torch.testing.assert_close(found.cells, alone)


@pytest.mark.parametrize(
    ("asked", "words", "param"),
    [
        ({}, "neither of concept and feature", "concept"),
        ({"feature": 1, "concept": "dog"}, "both of concept and feature", "concept"),
        ({"feature": 64}, "none of this model's features, 0..63", "feature"),
        ({"feature": -1}, "none of this model's features", "feature"),
        ({"concept": "unicorn"}, "no concept named", "concept"),
        ({"concept": ""}, "expected a word or phrase", "concept"),
        ({"concept": "a" * 101}, "101 characters", "concept"),
        ({"concept": "dog", "k": 0}, "1 to 16", "k"),
        ({"concept": "dog", "k": 17}, "1 to 16", "k"),
    ],
)
def test_what_steering_would_refuse_is_not_located(
    tiny: Pipeline, picture: DecodedImage, asked: dict[str, object], words: str, param: str
) -> None:
    with pytest.raises(SparsightError, match=words) as caught:
        locate(tiny, picture, **asked)
    assert caught.value.param == param


def test_a_dead_feature_is_not_located(
    tiny: Pipeline, picture: DecodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    density = tiny.atlas.density.copy()
    density[7] = 0
    monkeypatch.setattr(tiny, "atlas", replace(tiny.atlas, density=density))
    with pytest.raises(SparsightError, match="dead") as caught:
        locate(tiny, picture, feature=7)
    assert (caught.value.param, caught.value.code) == ("feature", "dead_feature")
