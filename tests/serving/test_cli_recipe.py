"""`sparsight steering recipe`: what is saved is tried first, and every command reads the same file."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import serving.features.opened
from serving.cli.main import main
from tests.tiny_model import photo, png, tiny_pipeline
from vlm.recipe_file import read_recipe_file


@pytest.fixture(scope="module")
def tiny() -> Any:
    return tiny_pipeline()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Any) -> Path:
    opened = SimpleNamespace(atlas=tiny.atlas, encoder=tiny.encoder)
    monkeypatch.setattr(serving.features.opened, "open_features", lambda *_: opened)
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a.png", 0), ("b.png", 7)):
        (tmp_path / name).write_bytes(png(seed))
    other = {"name": "o", "fingerprint": "e" * 64, "edits": [{"op": "ablate", "concept": "cat"}]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    number = {**other, "edits": [{"op": "ablate", "feature": 3}]}
    (tmp_path / "number.json").write_text(json.dumps(number))
    (tmp_path / "bad.json").write_text("{")
    return tmp_path


def run(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(main, ["steering", "recipe", *arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_what_is_saved_is_shown_and_checked() -> None:
    run(
        "save",
        "r.json",
        "--name",
        "n",
        "--description",
        "why",
        "--steer",
        "dog=0",
        "--steer",
        "#3*2",
    )
    shown = run("show", "r.json").stdout
    assert [line.split(maxsplit=1)[1] for line in shown.splitlines()] == [
        "n", "why", "f" * 64, "dog=0", "#3*2",
    ]  # fmt: skip
    assert (
        json.loads(run("show", "r.json", "--json").stdout) == read_recipe_file("r.json").to_json()
    )
    checked = run("check", "r.json").stdout.splitlines()
    assert checked[0].startswith("dog=0\t#") and checked[1].startswith("#3*2\t#3")
    edits = json.loads(run("check", "r.json", "--json").stdout)["edits"]
    assert [each["edit"] for each in edits] == read_recipe_file("r.json").to_json()["edits"]
    assert edits[1]["features"][0]["feature"] == 3


def test_a_recipe_goes_through_a_pipe() -> None:
    out = run("save", "-", "--name", "n", "--steer", "dog=0").stdout
    assert json.loads(out)["name"] == "n"
    assert run("check", "-", stdin=out).stdout.startswith("dog=0\t")


def test_a_photograph_is_saved_as_a_recipe(tiny: Any) -> None:
    asked = ("--steer-from", "b.png", "--photo", "a.png", "--top", "2")
    run("save", "r.json", "--name", "n", *asked)
    edits = read_recipe_file("r.json").edits
    theirs = tiny.encode([photo(7)]).dense()[0]
    assert [edit.value for edit in edits] == [float(theirs[edit.feature]) for edit in edits]
    assert len(edits) == 2 and all(edit.unit == "raw" for edit in edits)


def test_a_recipe_saved_again_for_this_model_carries_its_fingerprint() -> None:
    run("save", "r.json", "--name", "n", "--recipe", "other.json", "--resolve-again")
    assert read_recipe_file("r.json").fingerprint == "f" * 64
    run("check", "r.json")
    run("check", "other.json", "--resolve-again")


def test_a_file_is_overwritten_only_when_forced() -> None:
    Path("r.json").write_text("mine")
    asked = ("save", "r.json", "--name", "n", "--steer", "dog=0")
    assert "--force" in run(*asked, code=2).stderr
    assert Path("r.json").read_text() == "mine"
    run(*asked, "--force")
    assert read_recipe_file("r.json").name == "n"


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [
        (["save", "r.json", "--name", "n"], "nothing to save", 2),
        (["save", "r.json", "--steer", "dog=0"], "--name", 2),
        (["save", "r.json", "--name", " ", "--steer", "dog=0"], "name is empty", 1),
        (["save", "r.json", "--name", "n", "--steer", "dog"], "no =", 2),
        (["save", "r.json", "--name", "n", "--steer", "unicorn=0"], "'unicorn'", 1),
        (["save", "r.json", "--name", "n", "--steer", "#64=0"], "0..63", 1),
        (["save", "r.json", "--name", "n", "--steer-from", "b.png"], "--photo", 2),
        (["save", "r.json", "--name", "n", "--steer", "dog=0", "--photo", "a.png"], "go together", 2),
        (["save", "r.json", "--name", "n", "--steer", "dog=0", "--resolve-again"], "--recipe", 2),
        (["save", "r.json", "--name", "n", "--steer-from", "a.png", "--photo", "a.png"],
         "same code", 1),
        (["save", "no/r.json", "--name", "n", "--steer", "dog=0"], "cannot be written", 1),
        (["save", "r.json", "--name", "n", "--recipe", "other.json"], "made for model eeee", 1),
        (["check", "other.json"], "made for model eeee", 1),
        (["check", "number.json", "--resolve-again"], "cannot be resolved again", 1),
        (["check", "none.json"], "cannot be read", 1),
        (["check", "bad.json"], "no JSON", 1),
        (["show", "bad.json"], "no JSON", 1),
        (["show", "a.png"], "not UTF-8", 1),
    ],
)  # fmt: skip
def test_bad_calls_are_refused_in_words(arguments: list[str], word: str, code: int) -> None:
    result = run(*arguments, code=code)
    assert word in result.stderr
    assert result.stdout == "" and not Path("r.json").exists()
