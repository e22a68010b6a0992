"""``sparsight eval encoder``: the table as ever, the report on request, misuse named."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from serving.cli.main import main
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from tests.tiny_model import png, write_shard

THINGS = ["dog", "cat", "car"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An encoder alone, as `sparsight train encoder` leaves it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SparseEncoder.build(EncoderConfig(32, "tiny", "tiny"))
    folder = tmp_path / "model"
    folder.mkdir()
    encoder.save_heads(folder)
    (folder / "config.json").write_text(json.dumps({"encoder": encoder.config_json()}))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    captions = [(f"c{i}", png(i), {"captions": [f"A {THINGS[i % 3]} ."]}) for i in range(6)]
    write_shard(folder / "flickr8k" / "val-0000.tar", list(captions))
    for name in ("caltech101", "imagenet", "catsdogs", "grocery"):
        labels = [(f"l{i}", png(10 + i), {"label": THINGS[i % 3]}) for i in range(3)]
        write_shard(folder / "zeroshot" / f"{name}-test.tar", list(labels))
    names = dict.fromkeys(("caltech101", "imagenet", "catsdogs", "grocery"), THINGS)
    (folder / "zeroshot" / "classes.json").write_text(json.dumps(names))
    return folder


def test_without_out_the_call_prints_the_table_it_always_printed(model: Path, data: Path) -> None:
    arguments = ["eval", "encoder", "--model", str(model), "--data", str(data)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "flickr8k/val (6 images), per cent"
    assert lines[1].startswith("  text to image: R@1 ")
    assert lines[4] == "set          images   top-1   image density"
    assert len(lines) == 10
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert set(found) == {"retrieval", "zeroshot", "image_density", "text_density", "n_images"}
    same = CliRunner().invoke(main, ["eval", "encoder", str(model), "--data", str(data)])
    assert same.stdout == result.stdout


def test_with_out_a_report_is_left_and_a_table_printed(
    model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    arguments = ["eval", "encoder", str(model), "--data", str(data), "--out", str(out)]
    arguments += ["--embedding", "trunk"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert [z["templates"] for z in report["sets"]["caltech101"]["zeroshot"]] == [
        "mini",
        "imagenet80",
    ]
    assert "<svg" in (out / "report.html").read_text()
    assert "Clarity" in result.stdout and "wrote" in result.stderr and "wrote" not in result.stdout
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2 and "--force" in again.stderr
    (out / "report.html").write_text("old")
    forced = CliRunner().invoke(main, [*arguments, "--force", "--templates", "mini", "--json"])
    assert forced.exit_code == 0, forced.output
    assert json.loads(forced.stdout)["sets"]["caltech101"]["zeroshot"][0]["templates"] == "mini"
    assert "old" not in (out / "report.html").read_text()[:10]


def test_the_templates_change_the_figures_only_when_asked(model: Path, data: Path) -> None:
    arguments = ["eval", "encoder", str(model), "--data", str(data), "--json"]
    plain, mini, other = (
        json.loads(CliRunner().invoke(main, [*arguments, *more]).stdout)
        for more in ([], ["--templates", "mini"], ["--templates", "imagenet80"])
    )
    assert plain == mini
    assert plain["retrieval"] == other["retrieval"]


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        (["one", "--model", "two"], 2, "'two'"),
        (["one", "--templates", "mini", "--templates", "imagenet80"], 2, "--out"),
        (["one", "--templates", "clip"], 2, "imagenet80"),
        (["nowhere"], 1, "nowhere"),
    ],
)
def test_misuse_and_failure_are_named(data: Path, more: list[str], code: int, word: str) -> None:
    result = CliRunner().invoke(main, ["eval", "encoder", "--data", str(data), *more])
    assert (result.exit_code, result.stdout) == (code, "")
    assert word in result.stderr and "Traceback" not in result.output


def test_an_empty_data_folder_fails_with_its_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for more in ([], ["--out", str(tmp_path / "out"), "--embedding", "trunk"]):
        arguments = ["eval", "encoder", str(model), "--data", str(tmp_path / "empty"), *more]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1 and "empty" in result.stderr
    assert not (tmp_path / "out").exists()
