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


@pytest.mark.parametrize(
    ("params", "param"),
    [({"limit": "0"}, "limit"), ({"limit": "x"}, "limit"), ({"limit": "101"}, "limit"),
     ({"q": "dog"}, "q")],
)  # fmt: skip
def test_bad_searches_are_refused(http: httpx.Client, params: dict[str, str], param: str) -> None:
    answer = http.get("/v1/features", params=params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
