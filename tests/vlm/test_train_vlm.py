"""Both training commands on small real shards: the loss falls, runs resume, checkpoints reload."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import GPT2Config, GPT2LMHeadModel

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import Doses
from sparse_encoder.errors import SparsightError
from sparse_encoder.train import train_encoder
from tests.ranks import launch
from tests.tiny_model import photo, write_tiny_data
from vlm import train as module
from vlm.language_model import tiny_tokenizer
from vlm.pipeline import Pipeline, caption_request
from vlm.train import Captioner, _refuse_unlike_starts
from vlm.train_config import PRESETS, vlm_run
from vlm.train_run import train_vlm


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tiny_data(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def encoder_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        train_encoder("tiny", data, out, {"epochs": 40.0})
    return out


def test_training_the_encoder_lowers_its_loss(encoder_folder: Path) -> None:
    losses = json.loads((encoder_folder / "losses.json").read_text())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_training_the_captioner_lowers_its_loss_and_the_model_reloads(
    data: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    settings = {"steps": 60, "lr_lora": 0.03, "lr_projector": 0.03}
    losses = train_vlm("tiny", data, out, settings, encoder_folder=encoder_folder)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    one, two = Pipeline.load(out), Pipeline.load(out)
    assert one.fingerprint == two.fingerprint == one.atlas.fingerprint
    request = caption_request(photo(1))
    assert one.answer([request])[0].text == two.answer([request])[0].text


def dying(after: int) -> Callable[..., float]:
    """The step of the loop, until the run is killed after so many."""
    step, calls = module._step, []

    def die(*args: Any) -> float:
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(1)
        return step(*args)

    return die


def test_a_captioner_run_that_was_stopped_goes_on_as_if_it_had_not(
    data: Path, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 8}
    whole = train_vlm("tiny", data, tmp_path / "a", settings, encoder_folder=encoder_folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "SAVE_EVERY", 0.0)
        patch.setattr(module, "_step", dying(3))
        train_vlm("tiny", data, tmp_path / "b", settings, encoder_folder=encoder_folder)
    resumed = train_vlm("tiny", data, tmp_path / "b", settings, encoder_folder=encoder_folder)
    assert resumed == pytest.approx(whole, abs=1e-6)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_go_on_from_its_checkpoint(
    data: Path, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 8}
    alone = train_vlm("tiny", data, tmp_path / "a", settings, encoder_folder=encoder_folder)
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(module, "_step", dying(2))
    with pytest.raises(KeyboardInterrupt):
        train_vlm("tiny", data, tmp_path / "b", settings, encoder_folder=encoder_folder)
    code = (
        "import sys; from pathlib import Path; from vlm.train_run import train_vlm\n"
        "data, out, encoder = map(Path, sys.argv[1:])\n"
        "train_vlm('tiny', data, out, {'steps': 8}, encoder_folder=encoder)"
    )
    words = [str(data), str(tmp_path / "b"), str(encoder_folder)]
    assert launch(tmp_path / "two.py", code, words) == 0
    together = json.loads((tmp_path / "b" / "losses.json").read_text())
    assert together == pytest.approx(alone, rel=1e-4)
    one, two = Pipeline.load(tmp_path / "a"), Pipeline.load(tmp_path / "b")
    assert two.fingerprint == two.atlas.fingerprint
    torch.testing.assert_close(
        two.projector.state_dict(), one.projector.state_dict(), atol=2e-3, rtol=1e-2
    )


def test_processes_that_do_not_share_their_folder_are_told_so(tmp_path: Path) -> None:
    class Two(Accelerator):
        def gather(self, tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat([tensor, tensor + 3])

    with pytest.raises(SparsightError, match=r"different steps.*\[5, 8\].*share"):
        _refuse_unlike_starts(5, Two(), tmp_path)


def test_a_checkpoint_of_other_settings_is_refused(
    data: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    train_vlm("tiny", data, tmp_path, {"steps": 2}, encoder_folder=encoder_folder)
    with pytest.raises(SparsightError, match="other settings"):
        train_vlm("tiny", data, tmp_path, {"steps": 3}, encoder_folder=encoder_folder)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"stepz": 3}, "no setting"),
        ({"steps": "many"}, "expected a int"),
        ({"steps": 0}, "at least one"),
        ({"edits.swop": 1}, "no setting"),
        ({"stage1": 2.0}, "share"),
        ({"precision": "fp8"}, "bf16 or fp32"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict[str, object], word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        vlm_run("tiny", settings)


def test_missing_data_is_named(tmp_path: Path, encoder_folder: Path) -> None:
    with pytest.raises(SparsightError, match="no shard matches"):
        train_vlm("tiny", tmp_path / "none", tmp_path / "x", {}, encoder_folder=encoder_folder)


def test_a_language_model_without_the_layers_that_lora_is_put_on_is_refused_with_those_it_has(
    tmp_path: Path,
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    config = GPT2Config(vocab_size=264, n_positions=64, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    run = replace(PRESETS["tiny"], llm=str(tmp_path))
    with pytest.raises(SparsightError, match="named q_proj.*it has c_attn"):
        Captioner(run, 64, (3, 3))


def test_the_atlas_of_the_encoders_folder_is_taken_over_without_its_doses(
    data: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train_vlm("tiny", data, first, {"steps": 1}, encoder_folder=encoder_folder)
    atlas = FeatureAtlas.load(first / "features")
    named = replace(atlas, names=[f"my feature {i}" for i in range(atlas.n_features)])
    doses = Doses(named.fingerprint, named.scales_sha256, {}, ())
    replace(named, doses=doses).save(first / "features")
    train_vlm("tiny", data, second, {"steps": 2}, encoder_folder=first)
    taken = FeatureAtlas.load(second / "features")
    assert taken.names == named.names and taken.doses is None
    assert taken.fingerprint == Pipeline.load(second).fingerprint != named.fingerprint
