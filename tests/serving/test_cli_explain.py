"""`sparsight explain` and `sparsight locate` over the tiny pipeline."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from serving.cli.main import main
from tests.tiny_model import photo, png, tiny_pipeline
from vlm.explain.explain import explain
from vlm.explain.place import locate
from vlm.pipeline import Pipeline


@pytest.fixture(scope="module")
def tiny() -> Pipeline:
    return tiny_pipeline()


@pytest.fixture(autouse=True)
def folder(tiny: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with photographs; any model is the tiny one."""
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: tiny)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "large.png").write_bytes(png(0, size=(1500, 300)))
    (tmp_path / "bad.png").write_bytes(b"no photograph")
    (tmp_path / "words.txt").write_text("dog\nDog\nsnow man\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes("Hündchen".encode("latin-1"))
    return tmp_path


def run(*arguments: str, code: int = 0, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(main, arguments, input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_json_is_the_functions_answer(tiny: Pipeline) -> None:
    found = json.loads(run("explain", "a.png", "--text", "a dog", "--top", "3", "--json").stdout)
    plain = json.loads(json.dumps(explain(tiny, photo(0), text="a dog", top=3).to_json()))
    assert found == plain


def test_a_code_is_said_in_the_words_of_a_given_list() -> None:
    found = json.loads(run("explain", "a.png", "--words", "words.txt", "--json").stdout)["words"]
    assert found["n_candidates"] == 2
    assert {w["word"] for w in found["words"]} <= {"dog", "snow man"}


def test_standard_input_is_a_photograph_too() -> None:
    for command in (["explain", "-"], ["locate", "-", "--feature", "3"]):
        named = [word.replace("-", "a.png") if word == "-" else word for word in command]
        assert run(*command, stdin=png(0)).stdout == run(*named).stdout


def test_tables_show_features_words_terms_and_causes(tiny: Pipeline) -> None:
    shown = run("explain", "a.png", "--text", "a dog", "--word", "Q").stdout
    plain = explain(tiny, photo(0), text="a dog", word="Q")
    assert plain.word is not None and plain.similarity is not None
    lines = shown.splitlines()
    first = plain.features[0]
    assert lines[2].split()[0] == str(first.feature)
    assert f"{first.activation:.2f}" in lines[2]
    assert f"cosine with 'a dog': {plain.similarity.cosine:.4f}" in shown
    assert any(line.split()[:1] == [f"{plain.similarity.terms[0].term:+.4f}"] for line in lines)
    for cause in plain.word.causes:
        (row,) = [
            line
            for line in lines
            if line.split()[:1] == [str(cause.feature)] and line.split("  ")[-1].startswith(
                ("confirmed", "refuted"))
        ]  # fmt: skip
        assert ("confirmed" in row) == cause.confirmed
    assert lines[-1].startswith("without as many random ones: loss")


def test_a_located_feature_is_printed_row_by_row(tiny: Pipeline) -> None:
    plain = locate(tiny, photo(0), concept="dog", k=2)
    found = json.loads(run("locate", "a.png", "--concept", "dog", "--k", "2", "--json").stdout)
    assert found.pop("names") == [tiny.atlas.names[j] for j in plain.features]
    assert found == json.loads(json.dumps(plain.to_json()))
    lines = run("locate", "a.png", "--concept", "dog", "--k", "2").stdout.splitlines()
    assert lines[-1].split() == [f"{cell:.1f}" for cell in plain.cells[-1].tolist()]


@pytest.mark.parametrize("name", ["a.png", "large.png", "-"])
def test_the_overlay_has_the_files_own_size(folder: Path, name: str) -> None:
    stdin = (folder / "large.png").read_bytes() if name == "-" else None
    run("locate", name, "--feature", "3", "--out", "o.png", stdin=stdin)
    with Image.open("o.png") as drawn, Image.open("large.png" if name == "-" else name) as photo_:
        assert (drawn.size, drawn.format) == (photo_.size, "PNG")


def test_an_overlay_is_overwritten_only_when_forced(folder: Path) -> None:
    (folder / "o.png").write_bytes(b"mine")
    arguments = ("locate", "a.png", "--feature", "3", "--out", "o.png")
    assert "--force" in run(*arguments, code=2).stderr
    assert (folder / "o.png").read_bytes() == b"mine"
    run(*arguments, "--force")
    assert (folder / "o.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [
        (["explain"], "PHOTO", 2),
        (["explain", "none.png"], "there is no such file", 1),
        (["explain", "bad.png"], "bad.png: the image cannot be read", 1),
        (["explain", "a.png", "--top", "0"], "--top", 2),
        (["explain", "a.png", "--text", " "], "text is empty", 1),
        (["explain", "a.png", "--word", "xqzzt"], "does not say 'xqzzt'", 1),
        (["explain", "a.png", "--word", "!"], "expected a word", 1),
        (["explain", "a.png", "--words", "empty.txt"], "holds no word", 1),
        (["explain", "a.png", "--words", "latin.txt"], "expected UTF-8", 1),
        (["explain", "a.png", "--words", "none.txt"], "none.txt", 2),
        (["locate", "a.png"], "--feature and --concept", 2),
        (["locate", "a.png", "--feature", "1", "--concept", "dog"], "one of --feature", 2),
        (["locate", "a.png", "--feature", "64"], "0..63", 1),
        (["locate", "a.png", "--concept", "unicorn"], "no concept named 'unicorn'", 1),
        (["locate", "a.png", "--concept", "dog", "--k", "17"], "--k", 2),
        (["locate", "bad.png", "--feature", "1"], "cannot be read", 1),
        (["locate", "a.png", "--feature", "1", "--out", "."], "directory", 2),
    ],
)
def test_bad_calls_are_refused_in_words(arguments: list[str], word: str, code: int) -> None:
    result = run(*arguments, code=code)
    assert word in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", [["explain", "a.png"], ["locate", "a.png", "--feature", "1"]])
def test_a_model_without_an_atlas_is_refused(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparse_encoder.atlas import FeatureAtlas

    def load(*_: Any, **__: Any) -> Any:
        return FeatureAtlas.load("nowhere")

    monkeypatch.setattr(Pipeline, "load", load)
    assert "no readable feature atlas" in run(*command, code=1).stderr
