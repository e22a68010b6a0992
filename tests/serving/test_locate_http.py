"""`POST /v1/features/locate` over the tiny pipeline: the numbers and the picture of the command."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from serving.cli.main import main
from serving.limits import Limits
from serving.locate import work
from tests.tiny_model import png, tiny_pipeline
from vlm.pipeline import Pipeline

LARGE = png(0, size=(1500, 300))  # reduced before it is encoded


def uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@pytest.fixture(scope="module")
def tiny() -> Pipeline:
    return tiny_pipeline()


@pytest.fixture
def gateway(tiny: Pipeline, serve: Any) -> Iterator[httpx.Client]:
    with (
        serve(tiny, limits=Limits(max_body_bytes=2_000_000)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize("asked", [{"feature": 3}, {"concept": "dog", "k": 2}, {"concept": "dog"}])
def test_the_numbers_and_the_picture_are_the_commands(
    gateway: httpx.Client,
    tiny: Pipeline,
    asked: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = gateway.post(
        "/v1/features/locate", json={"image": uri(LARGE), "overlay": True, **asked}
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: tiny)
    (tmp_path / "large.png").write_bytes(LARGE)
    options = [word for key, value in asked.items() for word in (f"--{key}", str(value))]
    files = [str(tmp_path / name) for name in ("large.png", "out.png")]
    printed = CliRunner().invoke(main, ["locate", files[0], *options, "--out", files[1], "--json"])
    assert printed.exit_code == 0, printed.output
    plain = json.loads(printed.stdout)
    assert {key: found[key] for key in plain} == plain
    assert found["fingerprint"] == tiny.fingerprint
    picture = base64.b64decode(found["overlay"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(picture)) as ours, Image.open(files[1]) as theirs:
        assert ours.size == (1500, 300)  # the photograph's own
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_without_overlay_there_is_no_picture(gateway: httpx.Client) -> None:
    body = {"image": uri(png(0)), "feature": 3}
    assert gateway.post("/v1/features/locate", json=body).json()["overlay"] is None


@pytest.mark.parametrize(
    ("change", "words", "param"),
    [
        ({"feature": None}, "concept", "concept"),
        ({"concept": "dog"}, "both", "concept"),
        ({"feature": 64}, "0..63", "feature"),
        ({"feature": -1}, "0..63", "feature"),
        ({"feature": "3"}, "feature", "feature"),
        ({"feature": None, "concept": "unicorn"}, "no concept named 'unicorn'", "concept"),
        ({"feature": None, "concept": ""}, "concept", "concept"),
        ({"feature": None, "concept": "dog", "k": 17}, "k", "k"),
        ({"image": "http://example.com/a.png"}, "addresses are not fetched", "image"),
        ({"image": "data:image/png;base64,AAAA"}, "cannot be read", "image"),
        ({"overlay": "yes"}, "overlay", "overlay"),
        ({"regoin": 1}, "regoin", "regoin"),
    ],
)
def test_bad_requests_are_refused_in_words_by_their_key(
    gateway: httpx.Client, change: dict[str, Any], words: str, param: str
) -> None:
    body = {"image": uri(png(0)), "feature": 3, **change}
    answer = gateway.post(
        "/v1/features/locate", json={k: v for k, v in body.items() if v is not None}
    )
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert words in error["message"] and error["param"] == param


def test_an_overlay_of_too_many_pixels_is_refused_and_its_numbers_are_not(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MAX_OVERLAY_PIXELS", 1000)
    body = {"image": uri(LARGE), "feature": 3}
    assert gateway.post("/v1/features/locate", json=body).status_code == 200
    answer = gateway.post("/v1/features/locate", json={**body, "overlay": True})
    assert answer.status_code == 400
    assert "1500 x 300" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "overlay"


def test_a_body_over_the_limit_is_refused(gateway: httpx.Client) -> None:
    body = {"image": "data:image/png;base64," + "A" * 2_100_000, "feature": 3}
    assert gateway.post("/v1/features/locate", json=body).status_code == 413
