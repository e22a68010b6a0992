"""Features of an image and features by name, over HTTP."""

from typing import Any

import httpx
import pytest


def test_the_strongest_features_come_first_with_their_units(http: httpx.Client, uri: str) -> None:
    found = http.post("/v1/features/activations", json={"image": uri}).json()
    assert [(f["feature"], f["name"]) for f in found["features"]] == [(1, "cat"), (0, "dog")]
    cat = found["features"][0]
    assert cat == {
        "feature": 1,
        "name": "cat",
        "activation": 4.0,
        "p99": 2.0,  # 4 / the atlas' 2
        "share": pytest.approx(16 / 25),
    }
    assert (found["n_active"], found["norm"], found["fingerprint"]) == (2, 5.0, "f" * 64)


def test_cells_come_row_by_row_when_asked_for(http: httpx.Client, uri: str) -> None:
    body = {"image": uri, "top": 2, "cells": True}
    found = http.post("/v1/features/activations", json=body).json()
    assert found["features"][1]["cells"] == [[12.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("change", "words", "param"),
    [
        ({"image": None}, "missing", "image"),
        ({"image": "http://example.com/a.png"}, "not fetched", "image"),
        ({"top": 0}, "greater than or equal to 1", "top"),
        ({"top": 257}, "less than or equal to 256", "top"),
        ({"cell": True}, "did you mean cells", "cell"),
        ({"image": "data:image/png;base64,bm8="}, "cannot be read", "image"),
        ({"image": None, "images": []}, "0 entries, expected 1 to 8", "images"),
        ({"image": None, "images": 9 * ["data:"]}, "9 entries", "images"),
        ({"image": None, "images": ["data:image/png;base64,bm8="]}, "cannot be read", "images[0]"),
        ({"images": ["data:"]}, "both given", "images"),
        ({"image": None, "images": ["data:"], "cells": True}, "goes with image", "cells"),
    ],
)
def test_bad_requests_for_activations_are_refused(
    http: httpx.Client, uri: str, change: dict[str, Any], words: str, param: str
) -> None:
    answer = http.post("/v1/features/activations", json={"image": uri, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["message"]


def test_a_search_finds_equal_names_first_then_further_names_and_no_dead_feature(
    http: httpx.Client,
) -> None:
    found = http.get("/v1/features", params={"query": " Dog "}).json()
    assert [f["name"] for f in found["features"]] == ["dog", "cat", "hot dog"]
    assert http.get("/v1/features", params={"query": "ghost"}).json()["features"] == []
    assert found["features"][0]["p99"] == 2.0


def test_without_a_query_named_features_are_listed_up_to_the_limit(http: httpx.Client) -> None:
    found = http.get("/v1/features", params={"limit": 2}).json()
    assert [f["feature"] for f in found["features"]] == [0, 1]


def test_several_images_give_sparse_codes_in_their_order(http: httpx.Client, uri: str) -> None:
    body = {"images": [uri, uri], "top": 1}
    found = http.post("/v1/features/activations", json=body).json()
    assert (found["n_features"], len(found["codes"])) == (8, 2)
    code = found["codes"][0]
    assert (code["indices"], code["values"], code["names"]) == ([1], [4.0], ["cat"])
    assert (code["n_active"], code["norm"]) == (2, 5.0)


def test_all_active_features_come_when_asked_for(http: httpx.Client, uri: str) -> None:
    body = {"images": [uri], "top": 1, "all": True}
    (code,) = http.post("/v1/features/activations", json=body).json()["codes"]
    assert (code["indices"], code["values"]) == ([1, 0], [4.0, 3.0])
    one = http.post("/v1/features/activations", json={"image": uri, "top": 1, "all": True})
    assert [f["feature"] for f in one.json()["features"]] == [1, 0]


def test_a_phrase_that_is_no_name_is_answered_by_the_text_tower(http: httpx.Client) -> None:
    found = http.get("/v1/features", params={"query": "an animal"}).json()
    assert [(f["name"], f["match"], f["text"]) for f in found["features"]] == [
        ("cat", "text", 1.0),
        ("dog", "text", 0.5),
    ]


def test_pages_are_joined_by_their_cursors(http: httpx.Client) -> None:
    first = http.get("/v1/features", params={"query": "dog", "limit": 2}).json()
    cursor = first["next_cursor"]
    rest = http.get("/v1/features", params={"query": "dog", "limit": 2, "cursor": cursor}).json()
    assert [f["feature"] for f in (*first["features"], *rest["features"])] == [0, 1, 2]
    assert (first["total"], rest["next_cursor"]) == (3, None)


def test_one_feature_is_told_with_the_features_most_like_it(http: httpx.Client) -> None:
    found = http.get("/v1/features/0").json()
    assert (found["name"], found["runner_up"], found["p50"]) == ("dog", ["puppy"], 0.5)
    assert found["neighbours"][0] == {
        "feature": 1,
        "name": "cat",
        "cosine": pytest.approx(1 / 1.01**0.5),
    }
    assert http.get("/v1/features/3").json()["dead"] is True


@pytest.mark.parametrize("feature", ["8", "-1", "dog", "1.0", "1_0", "9" * 5000, "%C2%B2"])
def test_an_unknown_feature_is_404_in_the_envelope(http: httpx.Client, feature: str) -> None:
    answer = http.get(f"/v1/features/{feature}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "feature_not_found")
    assert error["type"] == "invalid_request_error"
    assert "0..7" in error["message"]


def test_the_cursor_of_another_search_is_refused(http: httpx.Client) -> None:
    cursor = http.get("/v1/features", params={"query": "dog", "limit": 1}).json()["next_cursor"]
    answer = http.get("/v1/features", params={"query": "cat", "limit": 1, "cursor": cursor})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor")


@pytest.mark.parametrize(
    ("params", "param"),
    [({"limit": "0"}, "limit"), ({"limit": "x"}, "limit"), ({"limit": "101"}, "limit"),
     ({"q": "dog"}, "q"), ({"query": ""}, "query"), ({"query": " "}, "query"),
     ({"query": "x" * 5000}, "query"), ({"cursor": "zzz"}, "cursor"), ({"cursor": ""}, "cursor")],
)  # fmt: skip
def test_bad_searches_are_refused(http: httpx.Client, params: dict[str, str], param: str) -> None:
    answer = http.get("/v1/features", params=params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
