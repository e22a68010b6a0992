"""``sparsight train encoder``: what the options of a pretraining run lead to."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serving.cli.main import main
from tests.tiny_model import WORDS, png, write_tar

TINY = ["--set", "samples=64", "--set", "tracker=", "--set", "log_every=1"]


@pytest.fixture
def shard(tmp_path: Path) -> str:
    files = {}
    for i in range(4):
        files[f"{i}.png"] = png(i)
        files[f"{i}.json"] = json.dumps({"captions": [f"a {WORDS[i]}"], "label": WORDS[i]}).encode()
    return str(write_tar(tmp_path / "a.tar", files))


def train(*words: str) -> Result:
    return CliRunner().invoke(main, ["train", "encoder", *words])


def test_validation_and_zero_shot_shards_are_measured(shard: str, tmp_path: Path) -> None:
    shards = ["--shards", shard, "--val-shards", shard, "--zeroshot-shards", shard]
    result = train("vit-tiny-8x", *shards, "--out", str(tmp_path / "run"), *TINY)
    assert result.exit_code == 0, result.output
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["val", "train", "train", "val"]
    assert lines[-1]["val pairs"] == lines[-1]["zero-shot classes"] == 4


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["vit-tiny-8x", "--val-shards", "none.tar"], 1, "none.tar"),
        (["vit-tiny-8x", "--zeroshot-shards", "none.tar"], 1, "none.tar"),
        (["vit-tiny-8x", "--start-from", "nowhere/clip"], 1, "nowhere/clip"),
        (["vit-tiny-8x", "--set", "local_weight=0.2"], 1, "set micro_batch=32"),
        (["mini", "--val-shards", "none.tar"], 2, "--val-shards"),
        (["mini", "--start-from", "x"], 2, "--start-from"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(
    shard: str, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    given = ["--shards", shard] if words[0] != "mini" else []
    result = train(*words, *given, "--out", str(tmp_path / "run"))
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_a_trainer_of_one_process_is_refused_to_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["train", "encoder", "tiny", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "tiny trains in one process, and 2 were started" in result.output
    assert not (tmp_path / "run").exists()
