"""`sparsight caption`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.cli.main import main
from vlm.pipeline import DEFAULT_PROMPT, Pipeline


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> Any:
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: pipeline)
    return pipeline


@pytest.fixture
def album(tmp_path: Path, photo: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine photographs in the folder `album`, which lies in the working folder."""
    folder = tmp_path / "album"
    folder.mkdir()
    for i in range(9):
        (folder / f"{i}.png").write_bytes(photo((i, 0, 0)))
    monkeypatch.chdir(tmp_path)
    return folder


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["caption", *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_a_photograph_gives_one_line_on_standard_output(album: Path) -> None:
    result = run("album/0.png")
    assert result.stdout == f"1 photos, no edits, asked {DEFAULT_PROMPT}\n"
    assert result.stderr == "loading sparsight-mini ...\n"


def test_edits_and_prompt_reach_the_pipeline(album: Path) -> None:
    arguments = ["--steer", "dog=0", "--steer", "cat=1", "--prompt", "who?"]
    assert run("album/0.png", *arguments).stdout == "1 photos, ablate dog, clamp cat, asked who?\n"


def test_json_gives_one_object_a_line_in_the_order_given(album: Path) -> None:
    result = run("album/3.png", "album/1.png", "--json", "--steer", "dog=0")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["path"] for line in lines] == ["album/3.png", "album/1.png"]
    assert all(list(line) == ["path", "caption", "receipt"] for line in lines)
    assert lines[0]["receipt"]["steering"]["edits"] == [{"op": "ablate", "concept": "dog"}]


def test_a_folder_is_batched(album: Path, pipeline: Any) -> None:
    assert run("album", "--batch-size", "4").stdout.count("\n") == 9
    assert pipeline.batches == [4, 4, 1]


def test_a_caption_of_several_lines_is_printed_on_one(album: Path) -> None:
    assert run("album/0.png", "--prompt", "a\nb").stdout.count("\n") == 1


def test_bad_photographs_are_told_in_their_place_and_the_rest_go_on(album: Path) -> None:
    (album / "1.png").write_bytes(b"no photograph")
    arguments = ["album/0.png", "album/1.png", "none.png", "album/2.png"]
    plain = run(*arguments, code=1)
    assert [bool(line) for line in plain.stdout.splitlines()] == [True, False, False, True]
    assert "Error: album/1.png: the image cannot be read" in plain.stderr
    assert "Error: none.png: there is no such file" in plain.stderr
    lines = [json.loads(line) for line in run(*arguments, "--json", code=1).stdout.splitlines()]
    assert ["error" in line for line in lines] == [False, True, True, False]
    assert list(lines[2]) == ["path", "error"]


def test_where_no_photograph_is_found_no_model_is_loaded(album: Path) -> None:
    (album / "empty").mkdir()
    result = run("album/empty", "none.png", "--json", code=1)
    assert "loading" not in result.stderr
    errors = [json.loads(line)["error"] for line in result.stdout.splitlines()]
    assert "no photographs in this folder" in errors[0] and "no such file" in errors[1]


def test_out_takes_the_lines_instead_of_standard_output(album: Path, tmp_path: Path) -> None:
    result = run("album", "--out", "captions.jsonl")
    assert result.stdout == ""
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [f"album/{i}.png" for i in range(9)]
    assert lines[0]["recipe"]["prompt"] == DEFAULT_PROMPT


def test_a_stopped_run_goes_on_where_it_was(
    album: Path, tmp_path: Path, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("album", "--out", "whole.jsonl", "--batch-size", "2")
    answer, calls = pipeline.answer, iter(range(9))

    def killed_at_the_third_batch(requests: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return answer(requests)

    monkeypatch.setattr(pipeline, "answer", killed_at_the_third_batch)
    run("album", "--out", "stopped.jsonl", "--batch-size", "2", code=1)
    stopped = tmp_path / "stopped.jsonl"
    assert len(stopped.read_text().splitlines()) == 4
    with stopped.open("a") as file:
        file.write('{"path": "album/4.png", "capt')  # as a power cut leaves it
    pipeline.requests.clear()
    monkeypatch.setattr(pipeline, "answer", answer)
    result = run("album", "--out", "stopped.jsonl", "--batch-size", "2")
    assert "4 captions already" in result.stderr
    assert len(pipeline.requests) == 5
    assert stopped.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    pipeline.requests.clear()
    run("album", "--out", "stopped.jsonl")
    assert pipeline.requests == []


def test_out_of_another_recipe_is_refused_unless_forced(album: Path, tmp_path: Path) -> None:
    run("album/0.png", "--out", "o.jsonl")
    result = run("album/0.png", "--out", "o.jsonl", "--steer", "dog=0", code=1)
    assert "another steering" in result.stderr and "--force" in result.stderr
    run("album/0.png", "--out", "o.jsonl", "--steer", "dog=0", "--force")
    assert '"dog"' in (tmp_path / "o.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [
        ([], "PHOTO", 2),
        (["album", "--steer", "dog"], "--steer", 2),
        (["album", "--steer", "dog=9"], "limit", 2),
        (["album", "--steer", "#8=1"], "0..7", 1),
        (["album", "--steer", "unicorn=0"], "unicorn", 1),
        (["album", "--max-tokens", "0"], "--max-tokens", 2),
        (["album", "--batch-size", "65"], "--batch-size", 2),
        (["album", "--force"], "--out", 2),
        (["album", "--out", "album"], "directory", 2),
        (["album", "--out", "album/0.png"], "no file of captions", 1),
    ],
)
def test_bad_calls_are_refused_in_words(
    album: Path, arguments: list[str], word: str, code: int
) -> None:
    result = run(*arguments, code=code)
    assert word in result.stderr
    assert result.stdout == ""


def test_a_warning_in_receipts_is_said_once_on_standard_error(
    album: Path, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    answer = pipeline.answer

    def warned(requests: Any) -> Any:
        return [
            replace(a, receipt=replace(a.receipt, warnings=("above the safe dose",)))
            for a in answer(requests)
        ]

    monkeypatch.setattr(pipeline, "answer", warned)
    assert run("album").stderr.count("Warning: above the safe dose") == 1
