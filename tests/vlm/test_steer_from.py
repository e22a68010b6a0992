"""A second photograph as a recipe, and all edits of a request as one list."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from tests.tiny_model import photo, tiny_pipeline
from vlm.edits import Edit
from vlm.pipeline import ImagePart, Message, Pipeline, Request, TextPart
from vlm.receipt import Receipt, verify_receipt
from vlm.recipe import Recipe
from vlm.steer_from import SteerFrom, recipe_from_photo


def code(**active: float) -> Codes:
    """One global code of twelve features: f3=1.5 is feature 3 at 1.5 raw."""
    row = torch.zeros(1, 12)
    for name, value in active.items():
        row[0, int(name[1:])] = value
    return Codes.from_dense(row)


def asked(top: int = 8) -> SteerFrom:
    return SteerFrom(photo(1), top, name="b.jpg")


def test_the_strongest_features_that_are_absent_here_are_clamped_to_their_activation_there(
    tiny_atlas: FeatureAtlas,
) -> None:
    here, there = code(f0=1.0, f3=0.1), code(f0=5.0, f1=0.5, f2=2.0, f3=4.0, f4=0.7, f5=9.0)
    recipe = recipe_from_photo(here, there, asked(2), tiny_atlas)  # 5 is dead
    assert [edit.feature for edit in recipe.edits] == [2, 4]
    assert recipe.edits[1] == Edit("clamp", feature=4, value=float(torch.tensor(0.7)), unit="raw")
    assert recipe.name == "from b.jpg" and asked().photo.sha256 in recipe.description


@given(seed=st.integers(0, 10_000), top=st.integers(1, 64))
def test_what_is_taken_was_absent_here_and_is_no_weaker_than_what_is_left(
    tiny_atlas: FeatureAtlas, seed: int, top: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    rows = torch.rand(2, 12, generator=random) * (torch.rand(2, 12, generator=random) < 0.5)
    here, there = Codes.from_dense(rows[:1]), Codes.from_dense(rows[1:])
    absent = {j for j in range(12) if rows[1, j] > 0 and rows[0, j] == 0 and j != 5}
    if not absent:
        with pytest.raises(SparsightError, match="no feature that this photograph lacks"):
            recipe_from_photo(here, there, asked(top), tiny_atlas)
        return
    edits = recipe_from_photo(here, there, asked(top), tiny_atlas).edits
    taken = {edit.feature for edit in edits}
    assert taken <= absent and len(edits) == min(top, len(absent))
    assert all(edit.value == float(rows[1, edit.feature]) for edit in edits)
    weakest = min(float(edit.value or 0) for edit in edits)
    assert all(rows[1, j] <= weakest for j in absent - taken)


@pytest.mark.parametrize(
    ("there", "word"), [({"f0": 1.0}, "same code"), ({"f0": 2.0}, "each of its 1 active")]
)
def test_a_photograph_with_nothing_to_take_is_refused_with_the_reason(
    tiny_atlas: FeatureAtlas, there: dict[str, float], word: str
) -> None:
    with pytest.raises(SparsightError, match=word) as caught:
        recipe_from_photo(code(f0=1.0), code(**there), asked(), tiny_atlas)
    assert (caught.value.param, caught.value.code) == ("steering.steer_from", "nothing_to_take")


@pytest.mark.parametrize("top", [0, 65, 1.5])
def test_a_bad_top_is_refused(top: int) -> None:
    with pytest.raises(SparsightError, match="1 to 64"):
        SteerFrom(photo(0), top)


@pytest.fixture(scope="module")
def tiny() -> Iterator[Pipeline]:
    yield tiny_pipeline()


def ask(*images: DecodedImage) -> Request:
    return Request((Message("user", (*map(ImagePart, images), TextPart("what?"))),))


def receipt(pipeline: Pipeline, request: Request) -> Receipt:
    (answer,) = pipeline.answer([request])
    assert answer.receipt is not None
    return answer.receipt


def test_the_activations_of_the_other_photograph_arrive_to_the_bit(tiny: Pipeline) -> None:
    here, there = photo(0), photo(7)
    found = receipt(tiny, replace(ask(here), steer_from=SteerFrom(there, 3)))
    theirs = tiny.encode([there]).dense()[0]
    assert len(found.applied) == 3
    for done in found.applied:
        assert (done.before, done.after) == (0.0, float(theirs[done.feature]))
    assert found.recipes[0].edits == (0, 1, 2)
    assert verify_receipt(found.to_json(), [here], tiny) == []


def test_each_of_several_images_gets_what_it_lacks_or_one_of_them_alone(tiny: Pipeline) -> None:
    request = ask(photo(0), photo(1))
    both = receipt(tiny, replace(request, steer_from=SteerFrom(photo(7), 2)))
    assert [edit.image for edit in both.edits] == [0, 0, 1, 1]
    one = receipt(tiny, replace(request, steer_from=SteerFrom(photo(7), 2, image=1)))
    assert one.edits == both.edits[2:]
    with pytest.raises(SparsightError, match=r"has 2 image\(s\)") as caught:
        tiny.answer([replace(request, steer_from=SteerFrom(photo(7), image=2))])
    assert caught.value.param == "steering.steer_from.image"


def test_a_recipe_follows_the_requests_own_edits_and_the_receipt_names_it(tiny: Pipeline) -> None:
    recipe = Recipe("mine", tiny.fingerprint, (Edit("ablate", feature=3),), "why")
    request = replace(ask(photo(0)), edits=(Edit("ablate", feature=2),), recipe=recipe)
    found = receipt(tiny, request)
    assert found.edits == (*request.edits, *recipe.edits)
    assert found.to_json()["recipes"] == [
        {"name": "mine", "description": "why", "fingerprint": tiny.fingerprint, "edits": [1]}
    ]
    assert Receipt.from_json(found.to_json()) == found
    plain = receipt(tiny, replace(request, edits=found.edits, recipe=None))
    assert plain.codes_sha256 == found.codes_sha256 and "recipes" not in plain.to_json()


def test_a_refused_edit_is_named_where_it_stood(tiny: Pipeline) -> None:
    recipe = Recipe("mine", tiny.fingerprint, (Edit("ablate", "unicorn"),))
    request = replace(ask(photo(0)), edits=(Edit("ablate", feature=2),), recipe=recipe)
    with pytest.raises(SparsightError, match="unicorn") as caught:
        tiny.answer([request])
    assert caught.value.param == "steering.recipe.edits[0].concept"
    taken = receipt(tiny, replace(ask(photo(0)), steer_from=SteerFrom(photo(7), 1))).edits[0]
    with pytest.raises(SparsightError, match="both touch feature") as caught:
        own = (Edit("ablate", feature=taken.feature),)
        tiny.answer([replace(ask(photo(0)), edits=own, steer_from=SteerFrom(photo(7), 1))])
    assert caught.value.param == "steering.steer_from"


def test_a_recipe_of_another_model_is_refused_by_the_pipeline_too(tiny: Pipeline) -> None:
    recipe = Recipe("mine", "e" * 64, (Edit("ablate", "dog"),))
    with pytest.raises(SparsightError, match="was made for model eeee"):
        tiny.answer([replace(ask(photo(0)), recipe=recipe)])
    found = receipt(tiny, replace(ask(photo(0)), recipe=recipe, resolve_again=True))
    assert found.recipes[0].fingerprint == "e" * 64 != found.fingerprint


@pytest.mark.parametrize(
    ("use", "word"),
    [
        ({"edits": [1]}, "indices into the receipt's 1 edits"),
        ({"edits": ["0"]}, "a whole number"),
        ({"name": 3}, "a string"),
        ({"nmae": "x"}, "unknown key"),
    ],
)
def test_a_receipt_with_a_recipe_that_cannot_be_is_refused(
    tiny: Pipeline, use: dict[str, object], word: str
) -> None:
    recipe = Recipe("mine", tiny.fingerprint, (Edit("ablate", feature=3),))
    claimed = receipt(tiny, replace(ask(photo(0)), recipe=recipe)).to_json()
    claimed["recipes"][0].update(use)
    with pytest.raises(SparsightError, match=word):
        Receipt.from_json(claimed)
