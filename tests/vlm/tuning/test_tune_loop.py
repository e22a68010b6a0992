"""The tuning loop: a killed run goes on, ranks and micro-batches change nothing, failures are named."""

import json
import logging
import resource
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import Doses
from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.metrics import read_metrics
from sparse_encoder.pretrain.state import newest_checkpoint
from tests.ranks import LocalRanks
from tests.tiny_model import write_tar
from tests.vlm.tuning.tuning_case import write_conversations, write_encoder
from vlm.pipeline import Pipeline
from vlm.tuning.loop import Tuner
from vlm.tuning.run import tune

SETTINGS: dict[str, Any] = {
    "stage1.samples": 16,
    "stage2.samples": 48,
    "stage1.batch": 8,
    "stage2.batch": 8,
    "save_every": 3,
    "log_every": 2,
    "edits.dropout": 0.5,
    "edits.amplify": 0.5,
}


class Data:
    """The arguments of a run on the shared tiny data."""

    def __init__(self, encoder: Path, captions: list[str], talks: Path, words: str) -> None:
        self.data: dict[str, Any] = {
            "urls": captions,
            "conversations": [talks],
            "encoder": encoder,
        }
        self.words = words

    def tune(self, out: Path, **settings: Any) -> list[float]:
        named = {key.replace("__", "."): value for key, value in settings.items()}
        return tune("tiny-8x", out, {**SETTINGS, "words": self.words, **named}, **self.data)

    def launch(self, out: Path, **settings: Any) -> LocalRanks:
        """The same on two processes."""
        all_settings = {**SETTINGS, "words": self.words, **settings}
        return LocalRanks(partial(tune, **self.data), "tiny-8x", out, all_settings)


@pytest.fixture
def case(encoder: Path, captions: list[str], talks: Path, words: str) -> Data:
    return Data(encoder, captions, talks, words)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return {
        **load_file(out / "projector.safetensors"),
        **load_file(out / "adapter" / "adapter_model.safetensors"),
    }


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_run_that_stopped_goes_on_with_the_same_losses_and_weights(
    case: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"lora__dropout": 0.2, "lora__dora": True}
    whole = case.tune(tmp_path / "whole", **options)
    step = Tuner.step

    def dying(self: Tuner, samples: Any) -> float:
        if self.state.step == 5:
            raise KeyboardInterrupt
        return step(self, samples)

    monkeypatch.setattr(Tuner, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        case.tune(tmp_path / "stopped", **options)
    monkeypatch.undo()
    assert case.tune(tmp_path / "stopped", **options) == whole
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    lines = [read_metrics(tmp_path / name, "train") for name in ("whole", "stopped")]
    assert [line["step"] for line in lines[0]] == [2, 4, 6, 8]
    same = ("step", "loss", "learning rate of LoRA", "density of the codes")
    assert [[x[k] for k in same] for x in lines[0]] == [[x[k] for k in same] for x in lines[1]]
    assert 0 <= lines[0][-1]["share of time waiting for samples"] <= 1


@pytest.mark.slow
def test_two_ranks_killed_at_any_moment_go_on_with_the_same_losses(
    case: Data, tmp_path: Path
) -> None:
    case.launch(tmp_path / "whole").wait()
    whole = json.loads((tmp_path / "whole" / "losses.json").read_text())
    run = case.launch(tmp_path / "killed")
    run.kill_once(lambda: newest_checkpoint(tmp_path / "killed") is not None)
    case.launch(tmp_path / "killed").wait()
    assert json.loads((tmp_path / "killed" / "losses.json").read_text()) == whole
    assert len(whole) == 8
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert Pipeline.load(tmp_path / "killed").n_features == 128


@pytest.mark.slow
def test_two_ranks_learn_what_one_does(case: Data, tmp_path: Path) -> None:
    case.data["urls"] = []  # the order of conversations does not depend on ranks
    settings = {"edits.dropout": 0.0, "edits.amplify": 0.0}
    alone = case.tune(tmp_path / "alone", edits__dropout=0.0, edits__amplify=0.0)
    case.launch(tmp_path / "two", **settings).wait()
    two = json.loads((tmp_path / "two" / "losses.json").read_text())
    assert two == pytest.approx(alone, rel=1e-4)


def test_micro_batches_and_checkpointing_change_nothing_but_rounding(
    case: Data, tmp_path: Path
) -> None:
    plain = case.tune(tmp_path / "plain", micro_batch=8)
    small = case.tune(tmp_path / "small", micro_batch=3, checkpointing=True)
    assert small == pytest.approx(plain, rel=1e-4)


def test_stage_one_leaves_the_language_model_as_it_was(case: Data, tmp_path: Path) -> None:
    case.tune(tmp_path, stage2__samples=0)
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all((value == 0).all() for name, value in adapter.items() if "lora_B" in name)
    case.tune(tmp_path / "both")
    adapter = load_file(tmp_path / "both" / "adapter" / "adapter_model.safetensors")
    assert all((value != 0).any() for name, value in adapter.items() if "lora_B" in name)


@pytest.mark.parametrize(
    "options",
    [
        {"lora__rslora": True, "lora__alpha": 8.0},
        {"lora__dora": True},
        {"lora__targets": ["q_proj", "v_proj"]},
        {"precision": "bf16", "edits__swap": 1.0, "stage1__conversations": 0.0},
        {"stage2__samples": 0, "stage2__epochs": 1.0, "stage2__conversations": 1.0},
    ],
)
def test_options_train_to_a_model_that_loads(
    case: Data, tmp_path: Path, options: dict[str, Any]
) -> None:
    AcceleratorState._reset_state(True)  # a process has one precision
    losses = case.tune(tmp_path, **options)
    AcceleratorState._reset_state(True)
    shape = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert shape["use_rslora"] == options.get("lora__rslora", False)
    assert shape["use_dora"] == options.get("lora__dora", False)
    assert set(options.get("lora__targets", ["q_proj", "down_proj"])) <= {*shape["target_modules"]}
    assert len(losses) == (3 if "stage2__epochs" in options else 8)
    Pipeline.load(tmp_path)


def test_concepts_are_swapped_in_codes_and_captions(
    case: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlm.edited_codes import CodeEditor

    made: list[Any] = []
    trained_on: list[bool] = []
    swapped, edited = CodeEditor.swapped, Tuner._edited

    def watch(self: CodeEditor, codes: Any, swap: Any, random: Any) -> Any:
        made.append((swap, swapped(self, codes, swap, random)))
        return made[-1][1]

    def watch_rows(self: Tuner, sample: Any, images: list[Any]) -> Any:
        n = len(made)
        codes, rows = edited(self, sample, images)
        is_swapped = len(made) > n and made[-1][1] is not None
        if is_swapped:  # both, or neither
            assert codes[0] is made[-1][1] and list(rows) == [sample.swap[1]]
        else:
            assert all(one is other for one, other in zip(codes, images, strict=True))
            assert list(rows) == list(sample.rows)
        trained_on.append(is_swapped)
        return codes, rows

    monkeypatch.setattr(CodeEditor, "swapped", watch)
    monkeypatch.setattr(Tuner, "_edited", watch_rows)
    case.tune(tmp_path, edits__swap=1.0, edits__dropout=0.0, edits__amplify=0.0)
    assert len(made) > 10 and any(trained_on) and not all(trained_on)
    assert all(swap.source.name not in swap.caption for swap, _ in made if swap.target)


def test_a_run_on_the_encoder_of_a_calibrated_model_leaves_its_doses_behind(
    case: Data, tmp_path: Path
) -> None:
    short = {"stage1__samples": 8, "stage2__samples": 8}
    case.tune(tmp_path / "first", **short)
    atlas = FeatureAtlas.load(tmp_path / "first" / "features")
    Doses(atlas.fingerprint, atlas.scales_sha256, {}, ()).save(tmp_path / "first" / "features")
    case.data["encoder"] = tmp_path / "first"
    case.tune(tmp_path / "second", **short)
    assert Pipeline.load(tmp_path / "first").atlas.doses is not None
    assert Pipeline.load(tmp_path / "second").atlas.doses is None


def test_a_dense_encoder_is_tuned_for_comparison_and_not_steered(
    case: Data, tmp_path: Path
) -> None:
    case.data["encoder"] = write_encoder(tmp_path / "dense", "identity")
    with pytest.raises(SparsightError, match="edits.swap=0"):
        case.tune(tmp_path / "model")
    plain = {"edits__swap": 0.0, "edits__dropout": 0.0, "edits__amplify": 0.0}
    losses = case.tune(tmp_path / "model", **plain)
    assert losses[-1] < losses[0]
    pipeline = Pipeline.load(tmp_path / "model")
    from tests.tiny_model import photo
    from vlm.edits import Edit

    codes = pipeline.encode([photo(1)])
    assert (codes.value < 0).any() and codes.density() == 1.0
    with pytest.raises(SparsightError, match="dense encoder"):
        pipeline.steer(codes, [Edit(op="ablate", feature=3)])


def test_a_loss_that_is_not_finite_stops_with_the_samples_and_keeps_the_weights(
    case: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlm.tuning.captioner import TunedCaptioner

    loss_of = TunedCaptioner.loss_of
    calls: list[int] = []

    def breaking(self: TunedCaptioner, soft: Any, batch: Any) -> Any:
        calls.append(1)
        return loss_of(self, soft, batch) * (float("nan") if len(calls) == 10 else 1.0)

    monkeypatch.setattr(TunedCaptioner, "loss_of", breaking)
    with pytest.raises(SparsightError, match="the loss is nan at step 4"):
        case.tune(tmp_path)
    bad = json.loads((tmp_path / "bad-batch-rank0.json").read_text())
    assert bad["step"] == 4 and len(bad["samples"]) == 8
    assert any(where.startswith("k") for where in bad["samples"])
    assert any("talks.json, item" in where for where in bad["samples"])
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "step-00000004"
    monkeypatch.undo()
    assert len(case.tune(tmp_path)) == 8


def test_a_full_disk_leaves_the_previous_checkpoint(
    case: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, limits = Tuner.step, resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(self: Tuner, samples: Any) -> float:
        if self.state.step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        return step(self, samples)

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr(Tuner, "step", filling)
    try:
        with pytest.raises(SparsightError, match="free some space"):
            case.tune(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "step-00000003"
    monkeypatch.undo()
    assert len(case.tune(tmp_path)) == 8


def test_a_checkpoint_of_other_settings_is_refused(case: Data, tmp_path: Path) -> None:
    case.tune(tmp_path)
    with pytest.raises(SparsightError, match=r"other settings \(seed differ\)"):
        case.tune(tmp_path, seed=1)


def test_what_cannot_be_read_is_left_out_counted_and_reported(
    case: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = write_tar(tmp_path / "bad.tar", {"x.png": b"no picture", "x.txt": b"a dog"})
    case.data["urls"] = [*case.data["urls"], str(bad)]
    talks = write_conversations(tmp_path)
    (tmp_path / "0.png").write_bytes(b"no picture")
    case.data["conversations"] = [talks]
    with caplog.at_level(logging.WARNING):
        case.tune(tmp_path / "model")
    assert "talks.json, item 1 (id c0)" in caplog.text
    assert "of kind image" in caplog.text
    assert read_metrics(tmp_path / "model", "train")[-1]["left out: image"] > 0


def test_the_tracker_gets_what_the_file_gets(
    case: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, object]] = []

    def log(self: Accelerator, values: dict[str, float], step: int) -> None:
        logged.append({"step": step, "kind": "train", **values})

    monkeypatch.setattr(Accelerator, "log", log)
    case.tune(tmp_path, tracker="tensorboard")
    assert logged == read_metrics(tmp_path, "train")


def test_a_batch_that_two_sources_and_ranks_cannot_share_is_refused(case: Data) -> None:
    from vlm.tuning.config import tune_run
    from vlm.tuning.schedule import Schedule

    schedule = Schedule(tune_run("tiny-8x", {"stage1.conversations": 0.25}), 8, True)
    assert schedule.mix(0, 2).conversations == 1
    with pytest.raises(SparsightError, match="6 captioned images and 2 conversations"):
        schedule.mix(0, 4)
    alone = Schedule(tune_run("tiny-8x", {}), 8, False)
    assert (alone.mix(0, 1).captions, alone.mix(0, 1).conversations) == (0, 8)


def test_rows_without_an_image_do_not_stop_stage_one(case: Data, tmp_path: Path) -> None:
    case.data["urls"] = []
    losses = case.tune(tmp_path, micro_batch=1, stage2__samples=0)
    assert len(losses) == 2


def test_loading_processes_give_what_the_schedule_asks_for(case: Data, tmp_path: Path) -> None:
    losses = case.tune(tmp_path / "two", workers=2)
    assert len(losses) == 8
    assert case.tune(tmp_path / "again", workers=2) == losses


def test_a_run_starts_from_the_result_of_another(case: Data, tmp_path: Path) -> None:
    case.tune(tmp_path / "first")
    del case.data["encoder"]  # that of the model is taken
    case.tune(
        tmp_path / "second",
        start_from=str(tmp_path / "first"),
        stage1__lr_projector=0.0,
        stage2__samples=0,
    )
    assert equal(weights(tmp_path / "first"), weights(tmp_path / "second"))
