"""``sparsight train vlm`` for any encoder and language model, up to a caption."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.cli.main import main
from tests.tiny_model import png
from tests.vlm.tuning.tuning_case import (
    write_captions,
    write_conversations,
    write_encoder,
    write_words,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_encoder(folder / "encoder")
    write_captions(folder)
    write_conversations(folder)
    write_words(folder)
    (folder / "photo.png").write_bytes(png(1))
    return folder


def train(*words: Any) -> Result:
    return CliRunner().invoke(main, ["train", "vlm", *map(str, words)])


def test_training_a_tiny_model_ends_in_a_folder_that_captions(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    result = train(
        *("tiny-8x", "--shards", home / "captions.tar", "--conversations", home / "talks.json"),
        *("--encoder", home / "encoder", "--out", out, "--set", f"words={home / 'words.txt'}"),
        *("--set", "stage1.samples=8", "--set", "stage2.samples=16"),
    )
    assert result.exit_code == 0, result.output
    words = ["caption", str(home / "photo.png"), "--model", str(out), "--max-tokens", "4", "--json"]
    captioned = CliRunner().invoke(main, words)
    assert captioned.exit_code == 0, captioned.output
    assert isinstance(json.loads(captioned.stdout.splitlines()[0])["caption"], str)


def test_a_dry_run_prints_parameters_memory_and_hours(home: Path) -> None:
    result = train("tiny-8x", "--encoder", home / "encoder", "--dry-run", "--gpus", "2")
    assert result.exit_code == 0, result.output
    for word in ("parameters, trained", "memory of a GPU, all", "stage 2, steps", "hours"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (["mini", "--shards", "a.tar", "--out", "x"], 2, "--data"),
        (["mini", "--dry-run"], 2, "plans tuning"),
        (["tiny-8x", "--data", ".", "--out", "x"], 2, "not --data"),
        (["tiny-8x"], 2, "--out"),
        (["tiny-9x", "--out", "x"], 1, "known: mini, tiny, tiny-8x"),
        (["tiny-8x", "--shards", "none.tar", "--out", "x"], 1, "do not exist"),
        (["tiny-8x", "--out", "x"], 1, "no data to train on"),
        (["tiny-8x", "--start-from", "none", "--out", "x"], 1, "no model 'none'"),
    ],
)
def test_misuse_is_named(
    words: list[str], code: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = train(*words)
    assert result.exit_code == code
    assert word in result.stderr
    assert "Traceback" not in result.stderr
