"""Pretraining on random towers: the loss falls, a killed run goes on, ranks agree, bad input is named."""

import json
import logging
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.config import PretrainRun, pretrain_run
from sparse_encoder.pretrain.loop import PreTrainer, pretrain
from sparse_encoder.pretrain.metrics import read_metrics
from sparse_encoder.pretrain.optimiser import learning_rate
from sparse_encoder.pretrain.state import newest_checkpoint
from sparse_encoder.towers.hub import load
from tests.ranks import LocalRanks
from tests.tiny_model import WORDS, png, write_tar

PRESET = "vit-tiny-8x"
SETTINGS = {
    "samples": 32 * 24,
    "tracker": "",
    "save_every": 8,
    "log_every": 4,
    "warmup": 4,
    "lr": 3e-3,
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Ten pictures with a word each, so that there is something to learn."""
    folder = tmp_path_factory.mktemp("shards")
    files = {}
    for i, word in enumerate(WORDS):
        files[f"{i}.png"], files[f"{i}.txt"] = png(i), f"a photo of a {word}".encode()
    return [str(write_tar(folder / f"{n}.tar", files)) for n in range(2)]


def test_the_loss_falls_and_the_model_reloads(shards: list[str], tmp_path: Path) -> None:
    losses = pretrain(PRESET, shards, tmp_path, SETTINGS)
    assert len(losses) == 24
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
    clip = load(tmp_path / "model")
    assert clip.encode_texts(["a photo of a dog"]).shape == (1, 128)


def test_checkpoints_at_fixed_shares_are_kept_and_others_go(
    shards: list[str], tmp_path: Path
) -> None:
    pretrain(PRESET, shards, tmp_path, {**SETTINGS, "samples": 32 * 20, "save_every": 3})
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    # 1, 3 and 10 % of 20 steps are steps 1 and 2, 30 % is step 6, 100 % step 20.
    assert kept == [f"step-{n:08d}" for n in (1, 2, 6, 20)]


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"ema": 0.9},
        {"model.loss": "siglip"},
        {"micro_batch": 5},
        {"local_weight": 0.2, "micro_batch": 32, "crop": 0.5, "flip": True},
    ],
)
def test_a_run_that_stopped_goes_on_with_the_same_losses(
    shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, object]
) -> None:
    settings = {**SETTINGS, "samples": 32 * 12, "save_every": 4, **extra}
    whole = pretrain(PRESET, shards, tmp_path / "whole", settings)
    step = PreTrainer.step

    def dying(self: PreTrainer, batch: object) -> object:
        if self.state.step == 6:
            raise KeyboardInterrupt
        return step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(PreTrainer, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        pretrain(PRESET, shards, tmp_path / "stopped", settings)
    monkeypatch.undo()
    assert pretrain(PRESET, shards, tmp_path / "stopped", settings) == whole
    one, other = (load(tmp_path / name / "model") for name in ("whole", "stopped"))
    assert torch.equal(one.image_head.weight, other.image_head.weight)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_two_ranks_killed_at_any_moment_go_on_with_the_same_losses(
    shards: list[str], tmp_path: Path, shard: bool
) -> None:
    settings = {**SETTINGS, "samples": 32 * 12, "save_every": 4, "shard": shard}
    LocalRanks(pretrain, PRESET, shards, tmp_path / "whole", settings).wait()
    whole = json.loads((tmp_path / "whole" / "losses.json").read_text())
    run = LocalRanks(pretrain, PRESET, shards, tmp_path / "killed", settings)
    run.kill_once(lambda: newest_checkpoint(tmp_path / "killed") is not None)
    LocalRanks(pretrain, PRESET, shards, tmp_path / "killed", settings).wait()
    assert json.loads((tmp_path / "killed" / "losses.json").read_text()) == whole
    assert len(whole) == 12
    one, other = (load(tmp_path / name / "model").state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_validation_and_losses_are_written_once_whether_or_not_the_run_was_stopped(
    shards: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    labels = {}
    for i in range(4):
        labels[f"{i}.png"] = png(i)
        labels[f"{i}.json"] = json.dumps({"label": WORDS[i]}).encode()
    judged = {
        "val_urls": shards[:1],
        "zeroshot_urls": [str(write_tar(tmp_path / "labels.tar", labels))],
    }
    settings = {**SETTINGS, "samples": 32 * 12, "save_every": 4, "val_every": 3, "log_every": 2}
    pretrain(PRESET, shards, tmp_path / "whole", settings, **judged)  # type: ignore[arg-type]
    assert "top1=" in capfd.readouterr().err  # beside the progress bar
    step = PreTrainer.step

    def dying(self: PreTrainer, batch: object) -> object:
        if self.state.step == 7:  # after a validation that the checkpoint of step 4 does not know
            raise KeyboardInterrupt
        return step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(PreTrainer, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        pretrain(PRESET, shards, tmp_path / "stopped", settings, **judged)  # type: ignore[arg-type]
    monkeypatch.undo()
    pretrain(PRESET, shards, tmp_path / "stopped", settings, **judged)  # type: ignore[arg-type]
    whole, stopped = (
        [read_metrics(tmp_path / name, kind) for kind in ("train", "val")]
        for name in ("whole", "stopped")
    )
    assert [line["step"] for line in whole[0]] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in whole[1]] == [0, 3, 6, 9, 12]
    assert whole[1] == stopped[1]
    same = ("step", "loss", "image L0", "text L0", "logit scale", "learning rate")
    assert [[x[k] for k in same] for x in whole[0]] == [[x[k] for k in same] for x in stopped[0]]
    assert {"val R@1 text to image", "val image L0", "zero-shot top-1"} <= whole[1][-1].keys()
    losses = json.loads((tmp_path / "whole" / "losses.json").read_text())
    assert [x["loss"] for x in whole[0]] == losses[1::2]


def test_the_tracker_gets_what_the_file_gets(
    shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, object]] = []

    def log(self: Accelerator, values: dict[str, float], step: int) -> None:
        logged.append({"step": step, **values})

    monkeypatch.setattr(Accelerator, "log", log)
    settings = {**SETTINGS, "samples": 32 * 4, "tracker": "tensorboard", "val_every": 2}
    pretrain(PRESET, shards, tmp_path, settings, val_urls=shards)
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.pop("kind") for line in written] == ["val", "val", "train", "val"]
    assert logged == written


def test_dead_features_are_counted_over_more_than_one_batch(
    shards: list[str], tmp_path: Path
) -> None:
    settings = {**SETTINGS, "samples": 32 * 8, "log_every": 1, "window": 96, "batch": 32}
    pretrain(PRESET, shards, tmp_path, settings)
    lines = read_metrics(tmp_path, "train")
    assert [line["pairs in the window"] for line in lines] == [32, 64, 96, 96, 96, 96, 96, 96]
    for line in lines:
        assert 0 <= line["image features silent in the window"] <= 128


def test_what_is_left_out_is_reported(
    shards: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = str(write_tar(tmp_path / "bad.tar", {"x.png": b"no picture", "x.txt": b"dog"}))
    with caplog.at_level(logging.WARNING):
        pretrain(PRESET, [*shards, bad], tmp_path / "run", {**SETTINGS, "samples": 32 * 4})
    assert "of kind image" in caplog.text


@pytest.mark.parametrize(
    ("preset", "settings", "word"),
    [
        ("vit-b99", {}, "known: vit-b32-32x"),
        (PRESET, {"batch": 0}, "1 or more"),
        (PRESET, {"samples": 3}, "less than one batch"),
        (PRESET, {"precision": "fp8"}, "bf16, fp16 or fp32"),
        (PRESET, {"ema": 1.0}, "share"),
        (PRESET, {"crop": 0.0}, "above 0, at most 1"),
        (PRESET, {"local_weight": -1.0}, "0 or more"),
        (PRESET, {"val_every": 0}, "1 or more"),
        (PRESET, {"window": 0}, "1 or more"),
        (PRESET, {"model.image.wide": 3}, "no setting"),
    ],
)
def test_bad_settings_are_refused_by_name(
    preset: str, settings: dict[str, object], word: str
) -> None:
    with pytest.raises(SparsightError, match=word):
        pretrain_run(preset, settings)


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(SparsightError, match="multiple, such as 33"):
        PretrainRun(batch=32).local_batch(3)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    run = PretrainRun(batch=10, samples=1000, warmup=10, lr=1.0)
    rates = [learning_rate(run, step) for step in range(run.steps)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[-1] < 0.001


def test_the_papers_presets_have_its_widths_and_sample_counts() -> None:
    small, large = pretrain_run("vit-b32-32x", {}), pretrain_run("vit-l14-72x", {})
    assert small.model.n_features(512) == 16_384
    assert large.model.n_features(768) == 55_296
    assert (small.steps, large.steps) == (13_732, 402_832)
