"""`sparsight features search | show | contrast`."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result

from serving.cli import features_find
from serving.cli.features_find import FIND_COMMANDS
from serving.cli.main import _Commands
from serving.features.opened import OpenedFeatures
from serving.features.work import make_finder
from sparse_encoder.codes import Codes

features = _Commands(
    "features", commands={command.name or "": command for command in FIND_COMMANDS}
)


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> None:
    """The fake pipeline's atlas; red photographs are of dog and cat, others of the hot dog."""

    def encode_images(images: Any) -> Codes:
        if images[0].pixels.getpixel((0, 0))[0] > 0:
            codes: Codes = pipeline.encode(images)
            return codes
        return Codes.from_dense(torch.eye(5, len(pipeline.atlas.names)).roll(2, 1), (2, 2))

    pipeline.encoder.encode_images = encode_images
    found = OpenedFeatures("fake", pipeline.encoder, pipeline.atlas, make_finder(pipeline))
    monkeypatch.setattr("serving.features.opened.open_features", lambda *_: found)


@pytest.fixture
def album(tmp_path: Path, photo: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "red.png").write_bytes(photo("red"))
    (tmp_path / "blue.png").write_bytes(photo("blue"))
    (tmp_path / "bad.png").write_bytes(b"no photograph")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(features, arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_a_search_prints_a_row_a_feature_under_its_head() -> None:
    lines = run("search", "dog").stdout.splitlines()
    assert lines[0].split() == ["feature", "name", "match", "text", "density", "%", "p99"] + [
        "further", "names"]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "2"]
    assert "puppy" in lines[1] and "equal" in lines[1]


def test_a_search_in_json_is_what_the_server_answers(pipeline: Any) -> None:
    found = json.loads(run("search", "dog", "--limit", "2", "--json").stdout)
    assert [f["feature"] for f in found["features"]] == [0, 1]
    assert found["total"] == 3
    rest = json.loads(run("search", "dog", "--cursor", found["next_cursor"], "--json").stdout)
    assert [f["feature"] for f in rest["features"]] == [2]


def test_the_next_page_is_named_on_standard_error() -> None:
    result = run("search", "dog", "--limit", "1")
    assert "1 of 3; --cursor " in result.stderr
    assert "--cursor" not in run("search", "dog").stderr


def test_a_search_without_results_says_so_and_prints_no_row() -> None:
    result = run("search", "zebra")
    assert result.stdout == "" and "no feature found" in result.stderr


@pytest.mark.parametrize("index", ["1", "#1"])
def test_one_feature_is_shown_line_by_line(index: str) -> None:
    lines = dict(line.split("  ", 1) for line in run("show", index).stdout.splitlines())
    assert lines["feature"].strip() == "1"
    assert lines["name"].strip() == "cat"
    assert "1.00  #0 dog" in run("show", index).stdout
    assert json.loads(run("show", index, "--json").stdout)["p99"] == 2.0


def test_a_dead_feature_is_shown_as_dead() -> None:
    assert "active on no reference image" in run("show", "3").stdout


def test_a_contrast_ranks_what_tells_the_photographs_apart(album: Path) -> None:
    lines = run("contrast", "--on", "red.png", "--off", "blue.png").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["1", "cat"], ["0", "dog"]]
    found = json.loads(run("contrast", "--on", "blue.png", "--off", "red.png", "--json").stdout)
    assert [(f["feature"], f["name"], f["contrast"]) for f in found["features"]] == [
        (2, "hot dog", 0.5)
    ]


def test_the_commands_have_the_names_that_the_group_lists() -> None:
    assert [command.name for command in FIND_COMMANDS] == ["search", "show", "contrast"]
    assert all(isinstance(command, click.Command) for command in features_find.FIND_COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["search"], "QUERY", 2),
        (["search", ""], "query is empty", 1),
        (["search", "x" * 101], "at most 100", 1),
        (["search", "dog", "--limit", "0"], "--limit", 2),
        (["search", "dog", "--cursor", "zzz"], "next_cursor", 1),
        (["show", "8"], "0..7", 1),
        (["show", "-1"], "-1", 2),
        (["show", "dog"], "no feature 'dog'", 1),
        (["contrast"], "--on", 2),
        (["contrast", "--on", "bad.png"], "cannot be read", 1),
        (["contrast", "--on", "none.png"], "no such file", 1),
        (["contrast", "--on", "empty"], "folder", 1),
    ],
)
def test_bad_calls_are_refused_in_words(
    album: Path, arguments: list[str], words: str, code: int
) -> None:
    result = run(*arguments, code=code)
    assert words in result.stderr
    assert result.stdout == ""
