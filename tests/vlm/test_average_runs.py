"""The mean of several captioners: its weights, what it keeps, and what has no mean."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparse_encoder.errors import SparsightError
from sparse_encoder.train import train_encoder
from tests.tiny_model import photo, write_tiny_data
from vlm.average_runs import average_runs
from vlm.pipeline import Pipeline, caption_request
from vlm.train_run import train_vlm

FILES = ("projector.safetensors", "adapter/adapter_model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model after some steps."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(folder / "cache"))
        write_tiny_data(folder / "data")
        train_encoder("tiny", folder / "data", folder / "encoder", {"epochs": 2.0})
        settings = {"steps": 6, "lr_lora": 0.03, "lr_projector": 0.03}
        train_vlm(
            "tiny",
            folder / "data",
            folder / "model",
            settings,
            encoder_folder=folder / "encoder",
        )
    return folder / "model"


@pytest.fixture
def two(trained: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model, and the same with other weights in projector and adapter."""
    one, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(trained, one)
    shutil.copytree(one, other)
    for name in FILES:
        state = load_file(other / name)
        generator = torch.Generator().manual_seed(1)
        moved = {
            k: (v.float() + 0.1 * torch.randn(v.shape, generator=generator)).to(v.dtype)
            for k, v in state.items()
        }
        save_file(moved, other / name)
    return one, other


def test_the_mean_has_the_mean_weights_and_is_a_model_that_answers(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "mean"
    average_runs(two, (1, 3), out)
    for name in FILES:
        one, other, mean = (load_file(folder / name) for folder in (*two, out))
        for key, value in mean.items():
            expected = 0.25 * one[key].float() + 0.75 * other[key].float()
            assert value.dtype == one[key].dtype
            torch.testing.assert_close(value.float(), expected, rtol=2e-3, atol=1e-3)
    pipeline = Pipeline.load(out)
    assert pipeline.atlas.fingerprint == pipeline.fingerprint
    assert pipeline.answer([caption_request(photo(1))])[0].text
    runs = json.loads((out / "config.json").read_text())["vlm_run"]["average"]
    assert [run["share"] for run in runs] == [0.25, 0.75]


def other_llm(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "llm": "smollm2-135m-instruct"}))


def other_encoder(folder: Path) -> None:
    state = load_file(folder / "encoder.safetensors")
    save_file({k: v + 1 for k, v in state.items()}, folder / "encoder.safetensors")


def other_adapter(folder: Path) -> None:
    config = json.loads((folder / "adapter/adapter_config.json").read_text())
    (folder / "adapter/adapter_config.json").write_text(json.dumps({**config, "r": 99}))


def broken_projector(folder: Path) -> None:
    (folder / FILES[0]).write_bytes(b"no safetensors")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_llm, "another language model"),
        (other_encoder, "another encoder"),
        (other_adapter, "another adapter"),
        (broken_projector, "projector.safetensors"),
    ],
)
def test_models_that_have_no_mean_are_refused_by_what_differs(
    spoil: Callable[[Path], None], words: str, two: tuple[Path, Path], tmp_path: Path
) -> None:
    spoil(two[1])
    with pytest.raises(SparsightError, match=words):
        average_runs(two, (1, 1), tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(
    ("n", "weights", "words"),
    [(1, (1,), "two or more"), (2, (1,), "one above 0"), (2, (1, -1), "one above 0")],
)
def test_bad_counts_and_weights_are_refused(
    n: int, weights: tuple[float, ...], words: str, two: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(SparsightError, match=words):
        average_runs(two[:n], weights, tmp_path / "mean")


def test_a_model_is_not_overwritten_by_its_mean(two: tuple[Path, Path]) -> None:
    before = (two[0] / FILES[0]).read_bytes()
    with pytest.raises(SparsightError, match="one of the models"):
        average_runs(two, (1, 1), two[0])
    assert (two[0] / FILES[0]).read_bytes() == before
