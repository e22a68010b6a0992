"""The command line: manners of all commands, and each but `caption`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from serving.cli.main import main
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import open_image
from vlm.pipeline import Pipeline, caption_request


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> Any:
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: pipeline)
    return pipeline


@pytest.fixture
def red(tmp_path: Path, photo: Any) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(photo())
    return path


def test_help_comes_without_waiting_for_anything_heavy() -> None:
    code = (
        "import sys; from serving.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'fastapi', 'PIL', 'numpy', 'gradio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("assemble", "caption", "eval", "export", "serve", "train", "verify"):
        assert command in done.stdout


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += _commands(command, (*path, name))
    return found


@pytest.mark.parametrize("command", _commands(main), ids=" ".join)
def test_every_command_has_help_with_a_line_for_each_option(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0 and "Usage:" in result.stdout
    group: Any = main
    for name in command:
        group = group.commands[name]
    for param in group.params:
        assert isinstance(param, click.Argument) or param.help, param.name


def test_a_refusal_is_one_line_on_standard_error_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise SparsightError("no such model")

    monkeypatch.setattr(Pipeline, "load", refuse)
    result = CliRunner().invoke(main, ["assemble", "--model", "x"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "loading x ...\nError: no such model\n"
    result = CliRunner().invoke(main, ["--debug", "assemble"])
    assert isinstance(result.exception, SparsightError)


def test_a_fault_of_ours_is_named_and_points_at_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: 1 // 0)
    result = CliRunner().invoke(main, ["assemble"])
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stderr and "--debug" in result.stderr
    assert "Traceback" not in result.output


def test_progress_of_a_long_start_is_a_line_for_each_thing(
    monkeypatch: pytest.MonkeyPatch, pipeline: Any
) -> None:
    def load(*_: Any, progress: Any) -> Any:
        for share in (None, 0.1, 0.2):
            progress("fetching trunk", share)
        progress("converting", None)
        return pipeline

    monkeypatch.setattr(Pipeline, "load", load)
    result = CliRunner().invoke(main, ["assemble"])
    assert result.stderr.splitlines()[1:] == ["fetching trunk ...", "converting ..."]


def test_assemble_prints_name_and_fingerprint(fake_model: Any) -> None:
    assert CliRunner().invoke(main, ["assemble"]).stdout == f"fake {'f' * 64}\n"


def receipt_of(pipeline: Any, path: Path) -> dict[str, Any]:
    from dataclasses import replace

    request = replace(caption_request(open_image(path)), want_receipt=True)
    receipt: dict[str, Any] = pipeline.answer([request])[0].receipt.to_json()
    return receipt


@pytest.mark.parametrize(
    "wrap",
    [lambda r: r, lambda r: {"steering": {"receipt": r}, "id": "x"}, lambda r: {"receipt": r}],
)
def test_a_true_receipt_is_equal_however_it_is_wrapped(
    fake_model: Any, red: Path, tmp_path: Path, wrap: Any
) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(wrap(receipt_of(fake_model, red))))
    result = CliRunner().invoke(main, ["verify", str(file), "--image", str(red)])
    assert (result.exit_code, result.stdout) == (0, "equal\n")
    piped = CliRunner().invoke(main, ["verify", "-", "--image", str(red)], input=file.read_text())
    assert (piped.exit_code, piped.stdout) == (0, "equal\n")


def test_a_false_receipt_is_told_line_by_line_with_exit_code_1(
    fake_model: Any, red: Path, tmp_path: Path
) -> None:
    receipt = receipt_of(fake_model, red)
    receipt["codes_sha256"] = "0" * 64
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(receipt))
    result = CliRunner().invoke(main, ["verify", str(file), "--image", str(red)])
    assert result.exit_code == 1
    assert result.stdout.startswith("codes_sha256: ") and result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "no JSON"),
        ("[1]", "no receipt"),
        ('{"receipt": null}', "no receipt"),
        ('{"path": "a"}\n{"path": "b"}\n', "more than one"),
        ("[" * 100_000, "nested"),
    ],
)
def test_what_is_no_receipt_is_refused(
    fake_model: Any, red: Path, tmp_path: Path, content: str, word: str
) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(content)
    result = CliRunner().invoke(main, ["verify", str(file), "--image", str(red)])
    assert result.exit_code == 1 and word in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["verify", "none.json", "--image", "a.jpg"], "none.json"),
        (["verify", "-"], "--image"),
        (["serve", "--port", "70000"], "65535"),
        (["serve", "--engine", "other"], "transformers"),
        (["train", "encoder", "mini", "--out", "x"], "--data"),
        (["train", "vlm", "mini", "--data", "none", "--out", "x"], "none"),
        (["train", "vlm", "mini", "--data", ".", "--out", "x", "--set", "lr"], "key=value"),
        (["eval", "steering"], "--data"),
        (["nothing"], "nothing"),
    ],
)
def test_misuse_ends_with_code_2_and_names_the_flag(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert word in result.stderr and "--help" in result.stderr
