"""What sparsight-mini's explanations say of photographs that we may show."""

from importlib.resources import files
from pathlib import Path

import pytest

from sparse_encoder.image import DecodedImage, open_image
from vlm.explain.explain import Explanation, explain
from vlm.explain.place import locate
from vlm.pipeline import Pipeline

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load()


def example(name: str) -> DecodedImage:
    return open_image(Path(str(files("demo") / "examples" / name)))


@pytest.fixture(scope="module")
def cat(pipeline: Pipeline) -> Explanation:
    return explain(pipeline, example("chelsea.jpg"), text="a cat on a sofa", word="cat", top=256)


def test_a_cat_is_said_because_of_features_that_are_called_after_cats(cat: Explanation) -> None:
    found = cat.word
    assert found is not None and found.said == "cat"
    assert sum("cat" in cause.name or "kitt" in cause.name for cause in found.causes) >= 3
    assert sum(cause.confirmed for cause in found.causes) >= 3


def test_without_the_causes_it_is_no_cat_and_without_random_ones_it_stays_one(
    cat: Explanation,
) -> None:
    assert cat.word is not None
    causes, control = cat.word.together, cat.word.together_control
    assert causes is not None and control is not None
    assert not causes.says_word and control.says_word
    assert causes.loss > 10 * abs(control.loss)


def test_terms_add_up_to_the_cosine_of_photograph_and_text(cat: Explanation) -> None:
    found = cat.similarity
    assert found is not None and found.n_shared == len(found.terms)
    assert abs(sum(term.term for term in found.terms) - found.cosine) < 1e-5


def test_a_cup_of_coffee_is_a_cup_in_words(pipeline: Pipeline) -> None:
    words = [w.word for w in explain(pipeline, example("coffee.jpg")).words.words]
    assert {"cup", "espresso"} <= set(words[:5])


def test_the_cat_is_located_in_its_face(pipeline: Pipeline) -> None:
    found = locate(pipeline, example("chelsea.jpg"), concept="cat")
    assert found.region is not None
    x0, y0, x1, y1 = found.region
    assert x0 > 0.1 and x1 < 0.9 and y0 > 0.1 and y1 < 0.95  # not the wall to the right of it
