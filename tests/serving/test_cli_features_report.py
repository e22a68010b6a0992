"""`sparsight features report | export`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.cli.features_report import REPORT_COMMANDS
from serving.cli.main import _Commands
from serving.features.opened import OpenedFeatures
from serving.features.work import make_finder

features = _Commands(
    "features", commands={command.name or "": command for command in REPORT_COMMANDS}
)


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> None:
    pipeline.encoder.encode_images = pipeline.encode
    pipeline.encoder.grid = (2, 2)
    found = OpenedFeatures("fake", pipeline.encoder, pipeline.atlas, make_finder(pipeline))
    monkeypatch.setattr("serving.features.opened.open_features", lambda *_: found)


@pytest.fixture(autouse=True)
def album(tmp_path: Path, photo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "red.png").write_bytes(photo("red"))
    (tmp_path / "bad.png").write_bytes(b"no photograph")
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(features, arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def chunk() -> list[dict[str, Any]]:
    text = Path("out/data/0000.js").read_text()
    rows: list[dict[str, Any]] = json.loads(f"[{text[text.index('(') + 1 : -3]}]")[1]
    return rows


def test_a_report_prints_its_page_and_holds_each_features_neighbours() -> None:
    assert run("report", "fake", "--out", "out").stdout == "out/index.html\n"
    assert Path("out/index.html").is_file()
    assert chunk()[0]["near"][0] == [1, 0.995]
    assert "pictures" not in chunk()[0]


def test_photographs_that_may_be_shown_go_into_the_report() -> None:
    run("report", "--out", "out", "--photos", "red.png", "--no-neighbours")
    assert chunk()[0]["pictures"] == [[0, 3.0, [99, 0, 0, 0]]]
    assert chunk()[0]["near"] == []
    assert Path("out/pictures/0.jpg").is_file()


def test_a_report_is_not_replaced_without_force() -> None:
    run("report", "--out", "out")
    assert "--force" in run("report", "--out", "out", code=1).stderr
    run("report", "--out", "out", "--force")


def test_an_export_prints_its_folder_and_holds_all_features() -> None:
    assert run("export", "--out", "out", "--photos", "red.png").stdout == "out\n"
    batch = json.loads(Path("out/batch-0.json").read_text())
    assert [f["pos_str"] for f in batch["features"][:2]] == [["dog"], ["cat"]]
    assert batch["features"][0]["activations"][0]["values"] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("command", ["report", "export"])
@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ([], "--out", 2),
        (["--out", "red.png"], "red.png", 2),
        (["--out", "out", "--photos", "bad.png"], "cannot be read", 1),
        (["--out", "out", "--photos", "none.png"], "no such file", 1),
    ],
)
def test_bad_calls_are_refused_in_words_and_write_nothing(
    command: str, arguments: list[str], words: str, code: int
) -> None:
    result = run(command, *arguments, code=code)
    assert words in result.stderr
    assert result.stdout == "" and not Path("out").exists()
