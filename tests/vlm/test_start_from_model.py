"""A captioner's run that begins with the projector and adapter of a finished model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparse_encoder.errors import SparsightError
from sparse_encoder.train import train_encoder
from tests.tiny_model import write_tiny_data
from vlm.pipeline import Pipeline
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
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model after a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        encoder = tmp_path_factory.mktemp("encoder")
        train_encoder("tiny", data, encoder, {"epochs": 2.0})
        out = tmp_path_factory.mktemp("model")
        settings = {"steps": 6, "lr_lora": 0.03, "lr_projector": 0.03}
        train_vlm("tiny", data, out, settings, encoder_folder=encoder)
    return out


def test_a_run_that_starts_from_a_model_begins_with_its_weights_and_encoder(
    data: Path, model: Path, tmp_path: Path
) -> None:
    still = {"steps": 1, "lr_lora": 0.0, "lr_projector": 0.0, "start_from": str(model)}
    train_vlm("tiny", data, tmp_path, still)
    for name in (
        "projector.safetensors",
        "adapter/adapter_model.safetensors",
        "encoder.safetensors",
    ):
        old, new = load_file(model / name), load_file(tmp_path / name)
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old), name


def test_a_run_that_starts_from_a_model_goes_on_from_its_own_checkpoint(
    data: Path, model: Path, tmp_path: Path
) -> None:
    settings = {"steps": 3, "start_from": str(model)}
    first = train_vlm("tiny", data, tmp_path, settings)
    weights = (tmp_path / "projector.safetensors").read_bytes()
    assert train_vlm("tiny", data, tmp_path, settings) == first
    assert (tmp_path / "projector.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("settings", "param", "word"),
    [
        ({"rank": 3}, "rank", "r=2, this run has 3"),
        ({"groups": [3, 3]}, "groups", "another shape"),
        ({"start_from": "no-such-model"}, None, "no-such-model"),
    ],
)
def test_a_model_that_does_not_fit_the_run_is_refused_with_what_differs(
    data: Path,
    model: Path,
    tmp_path: Path,
    settings: dict[str, object],
    param: str | None,
    word: str,
) -> None:
    with pytest.raises(SparsightError, match=word) as refused:
        train_vlm("tiny", data, tmp_path, {"start_from": str(model), **settings})
    assert param is None or refused.value.param == param


def test_a_run_does_not_start_from_its_own_result(data: Path, model: Path) -> None:
    with pytest.raises(SparsightError, match="another --out"):
        train_vlm("tiny", data, model, {"start_from": str(model)})


def test_weights_that_peft_would_pass_over_are_refused(
    data: Path, model: Path, tmp_path: Path
) -> None:
    from shutil import copytree

    from safetensors.torch import save_file

    odd = tmp_path / "odd"
    copytree(model, odd)
    path = odd / "adapter/adapter_model.safetensors"
    save_file({f"x.{k}": v for k, v in load_file(path).items()}, path)
    with pytest.raises(SparsightError, match="does not fit its language model") as refused:
        Pipeline.load(odd)  # never the model without its training
    assert refused.value.code == "bad_adapter"
    with pytest.raises(SparsightError, match="other weights"):
        train_vlm("tiny", data, tmp_path / "out", {"start_from": str(odd)})
    assert "start_from" in json.loads((tmp_path / "out/config.json").read_text())["vlm_run"]
