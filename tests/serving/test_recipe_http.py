"""Recipes and photographs over HTTP: the same file as on the command line, and each refusal."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.tiny_model import photo, png, tiny_pipeline
from vlm.pipeline import Pipeline
from vlm.recipe import parse_recipe

PRINT = "f" * 64
DOG = {"op": "ablate", "concept": "dog"}
RECIPE = {"name": "no dog", "description": "d", "fingerprint": PRINT, "edits": [DOG]}
OTHER = {**RECIPE, "fingerprint": "e" * 64}


def uri(seed: int) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(seed)).decode()}"


def from_photo(**keys: Any) -> dict[str, Any]:
    return {"steer_from": {"image_url": {"url": uri(7)}, **keys}}


@pytest.fixture(scope="module")
def tiny_model() -> Pipeline:
    return tiny_pipeline()


@pytest.fixture
def tiny(tiny_model: Pipeline, serve: Any) -> Iterator[httpx.Client]:
    with serve(tiny_model) as url, httpx.Client(base_url=url, timeout=120) as client:
        yield client


def chat(client: httpx.Client, steering: Any, *, status: int = 200) -> Any:
    model = client.get("/v1/models").json()["data"][0]["id"]
    content = [{"type": "image_url", "image_url": {"url": uri(0)}}, {"type": "text", "text": "?"}]
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    answer = client.post("/v1/chat/completions", json={**body, "steering": steering})
    assert answer.status_code == status, answer.text
    return answer.json()["error"] if status >= 400 else answer.json()["steering"]["receipt"]


def test_a_recipes_edits_follow_the_others_and_the_receipt_names_it(http: httpx.Client) -> None:
    receipt = chat(http, {"edits": [{"op": "ablate", "feature": 1}], "recipe": RECIPE})
    assert receipt["steering"]["edits"] == [{"op": "ablate", "feature": 1}, DOG]
    assert receipt["recipes"] == [
        {"name": "no dog", "description": "d", "fingerprint": PRINT, "edits": [1]}
    ]


def test_a_recipe_of_another_model_is_resolved_again_when_asked(http: httpx.Client) -> None:
    receipt = chat(http, {"recipe": OTHER, "resolve_again": True})
    assert receipt["recipes"][0]["fingerprint"] == "e" * 64


def test_a_photographs_features_are_clamped_and_the_photograph_is_no_part_of_the_chat(
    tiny: httpx.Client,
) -> None:
    receipt = chat(tiny, from_photo(top=2))
    assert [image["sha256"] for image in receipt["images"]] == [photo(0).sha256]
    assert [edit["op"] for edit in receipt["steering"]["edits"]] == ["clamp", "clamp"]
    assert photo(7).sha256 in receipt["recipes"][0]["description"]


BAD: list[tuple[Any, str, str, str]] = [
    ({"recipe": "no-dog.json"}, "is no recipe", "steering.recipe", "invalid_value"),
    ({"recipe": OTHER}, "made for model eeee", "steering.recipe.fingerprint", "other_fingerprint"),
    ({"recipe": {**OTHER, "edits": [{"op": "ablate", "feature": 0}]}, "resolve_again": True},
     "cannot be resolved again", "steering.recipe.edits[0].feature", "other_fingerprint"),
    ({"recipe": {**RECIPE, "edits": []}}, "edits is empty", "steering.recipe.edits",
     "invalid_value"),
    ({"recipe": {**RECIPE, "edits": [{"op": "ablate", "feature": 8}]}}, "0..7",
     "steering.recipe.edits[0].feature", "invalid_value"),
    ({"recipe": {**RECIPE, "edits": [{**DOG, "concept": "unicorn"}]}}, "unicorn",
     "steering.recipe.edits[0].concept", "unknown_concept"),
    ({"recipe": {**RECIPE, "edit": []}}, "did you mean edits", "steering.recipe.edit",
     "unknown_key"),
    ({"edits": [DOG] * 2, "recipe": {**RECIPE, "edits": [DOG] * 63}}, "65 edits",
     "steering.edits", "invalid_value"),
    ({"resolve_again": True}, "goes with a recipe", "steering.resolve_again", "invalid_value"),
    ({"recipe": OTHER, "resolve_again": "yes"}, "true or false", "steering.resolve_again",
     "invalid_value"),
    ({"recipies": RECIPE}, "did you mean recipe", "steering.recipies", "unknown_key"),
    ({"steer_from": "b.jpg"}, "no object", "steering.steer_from", "invalid_value"),
    ({"steer_from": {}}, "missing", "steering.steer_from.image_url", "missing_parameter"),
    (from_photo(top=0), "greater than or equal to 1", "steering.steer_from.top", "invalid_value"),
    (from_photo(tpo=3), "did you mean top", "steering.steer_from.tpo", "unknown_parameter"),
    (from_photo(image=1), "has 1 image(s)", "steering.steer_from.image", "invalid_value"),
    (from_photo(), "same code", "steering.steer_from", "nothing_to_take"),
    ({"steer_from": {"image_url": {"url": "http://a/b.jpg"}}}, "not fetched",
     "steering.steer_from.image_url.url", "remote_image"),
]  # fmt: skip


def test_each_bad_request_is_refused_in_words_and_named_by_its_key(http: httpx.Client) -> None:
    for steering, word, param, code in BAD:
        error = chat(http, steering, status=400)
        assert word in error["message"], (steering, error)
        assert (error["param"], error["code"]) == (param, code), (steering, error)


def test_a_recipe_without_an_image_in_the_chat_is_refused(http: httpx.Client) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
    answer = http.post("/v1/chat/completions", json={**body, "steering": {"recipe": RECIPE}})
    assert answer.json()["error"]["code"] == "steering_without_image"


def test_a_written_recipe_is_a_file_that_a_chat_takes(tiny: httpx.Client) -> None:
    steering = {"edits": [{"op": "clamp", "concept": "dog", "value": 1}], "recipe": {**OTHER, "edits": [
        {"op": "ablate", "concept": "cat"}]}, "resolve_again": True}  # fmt: skip
    body = {"name": "a", "description": "why", "steering": steering}
    made = tiny.post("/v1/steering/recipe", json=body).json()
    assert made["fingerprint"] == PRINT and made["description"] == "why"
    assert len(parse_recipe(made).edits) == 2
    assert chat(tiny, {"recipe": made})["steering"]["edits"] == made["edits"]


def test_a_photograph_is_written_down_as_a_recipe(tiny: httpx.Client) -> None:
    body = {"name": "a", "steering": from_photo(top=2), "image": uri(0)}
    made = tiny.post("/v1/steering/recipe", json=body).json()
    assert made["edits"] == chat(tiny, from_photo(top=2))["steering"]["edits"]


@pytest.mark.parametrize(
    ("change", "word", "param"),
    [
        ({"name": None}, "missing", "name"),
        ({"name": " "}, "name is empty", "name"),
        ({"steering": None}, "missing", "steering"),
        ({"steering": {}}, "nothing to write down", "steering"),
        ({"steering": {"edits": [{"op": "ablate", "concept": "unicorn"}]}}, "unicorn",
         "steering.edits[0].concept"),
        ({"steering": {"edits": [{**DOG, "image": 0}]}}, "any photograph", "edits[0].image"),
        ({"steering": from_photo()}, "is not given", "steering.steer_from"),
        ({"steering": from_photo(), "image": "b.jpg"}, "data URI", "image"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_down_is_refused(
    tiny: httpx.Client, change: dict[str, Any], word: str, param: str
) -> None:
    good = {"name": "a", "steering": {"edits": [DOG]}}
    answer = tiny.post("/v1/steering/recipe", json={**good, **change})
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == param
