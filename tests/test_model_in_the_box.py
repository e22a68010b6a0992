"""Behaviour of sparsight-mini on photographs that we may show."""

from importlib.resources import files
from pathlib import Path

import pytest

from sparse_encoder.image import DecodedImage, open_image
from vlm.edits import Edit, parse_edits
from vlm.mention import Lexicon, mentions
from vlm.pipeline import Answer, Pipeline, caption_request
from vlm.receipt import verify_receipt
from vlm.shorthand import parse_shorthand

pytestmark = pytest.mark.model
CAT, DOG = Lexicon.for_concept("cat"), Lexicon.for_concept("dog")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load()


@pytest.fixture(scope="module")
def chelsea() -> DecodedImage:
    return open_image(Path(str(files("demo") / "examples" / "chelsea.jpg")))


def _edits(pipeline: Pipeline, *shorthand: str) -> tuple[Edit, ...]:
    steering = {"edits": [parse_shorthand(text) for text in shorthand]}
    return parse_edits(steering, n_images=1, n_features=pipeline.n_features)


def _say(pipeline: Pipeline, photo: DecodedImage, *shorthand: str) -> Answer:
    edits = _edits(pipeline, *shorthand)
    return pipeline.answer([caption_request(photo, edits=edits)])[0]


def test_the_cat_is_captioned_as_a_cat(pipeline: Pipeline, chelsea: DecodedImage) -> None:
    assert mentions(CAT, _say(pipeline, chelsea).text)


def test_with_the_cat_ablated_and_the_dog_clamped_it_is_a_dog(
    pipeline: Pipeline, chelsea: DecodedImage
) -> None:
    text = _say(pipeline, chelsea, "cat=0", "dog=1").text
    assert mentions(DOG, text) and not mentions(CAT, text)


def test_an_ablation_takes_out_what_zeros_leave(pipeline: Pipeline) -> None:
    photo = open_image(Path(str(files("demo") / "examples" / "sign.jpg")))
    plain, zeros, taken = (
        _say(pipeline, photo, *one).text for one in ((), ("sign*0",), ("sign=0",))
    )
    assert "stop sign" in plain and "stop sign" in zeros
    assert "sign" not in taken


def test_an_ablation_of_what_is_not_there_leaves_the_caption(
    pipeline: Pipeline, chelsea: DecodedImage
) -> None:
    assert _say(pipeline, chelsea, "pizza=0").text == _say(pipeline, chelsea).text


def test_the_main_subject_is_named_in_a_word(pipeline: Pipeline, chelsea: DecodedImage) -> None:
    prompt = "What is the main subject? Answer in one or two words."
    answer = pipeline.answer([caption_request(chelsea, prompt=prompt)])[0]
    assert mentions(CAT, answer.text) and len(answer.text.split()) <= 2


def test_codes_are_sparse(pipeline: Pipeline) -> None:
    photos = [open_image(p) for p in Path(str(files("demo") / "examples")).glob("*.jpg")]
    assert 0.001 < pipeline.encode(photos).density() < 0.08


def test_an_edit_that_changes_nothing_leaves_code_and_caption_as_they_were(
    pipeline: Pipeline, chelsea: DecodedImage
) -> None:
    codes = pipeline.encode([chelsea])
    feature = int(codes.index[0])
    edits = _edits(pipeline, f"#{feature}*1")
    assert pipeline.steer(codes, edits).codes.sha256() == codes.sha256()
    plain, same = pipeline.answer([caption_request(chelsea), caption_request(chelsea, edits=edits)])
    assert plain.text == same.text


def test_the_receipt_of_a_steered_caption_is_true_for_its_photograph_alone(
    pipeline: Pipeline, chelsea: DecodedImage
) -> None:
    receipt = _say(pipeline, chelsea, "cat=0", "dog=1").receipt
    assert receipt is not None
    coffee = open_image(Path(str(files("demo") / "examples" / "coffee.jpg")))
    assert verify_receipt(receipt.to_json(), [chelsea], pipeline) == []
    assert verify_receipt(receipt.to_json(), [coffee], pipeline) != []


def test_different_edits_in_one_batch_give_the_answers_that_each_gets_alone(
    pipeline: Pipeline, chelsea: DecodedImage
) -> None:
    recipes = [(), ("cat=0", "dog=1"), ("cat=0",), ("cat*1.5",)]
    requests = [caption_request(chelsea, edits=_edits(pipeline, *r)) for r in recipes]
    together = [a.text for a in pipeline.answer(requests)]
    alone = [pipeline.answer([r])[0].text for r in requests]
    assert together == alone
    assert len(set(together)) > 1
