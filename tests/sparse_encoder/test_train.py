from pathlib import Path

import pytest
import torch

from sparse_encoder import train as module
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.train import HeadTrainer, train_encoder
from tests.tiny_model import write_tiny_data

SETTINGS = {"epochs": 30.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tiny_data(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "cache"))


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY", 4)
    whole = train_encoder("tiny", data, tmp_path / "whole", SETTINGS)
    loss = HeadTrainer.loss

    def dying(self: HeadTrainer, step: int, random: object) -> torch.Tensor:
        if step == 6:
            raise KeyboardInterrupt
        return loss(self, step, random)  # type: ignore[arg-type]

    monkeypatch.setattr(HeadTrainer, "loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train_encoder("tiny", data, tmp_path / "stopped", SETTINGS)
    monkeypatch.setattr(HeadTrainer, "loss", loss)
    resumed = train_encoder("tiny", data, tmp_path / "stopped", SETTINGS)
    assert len(whole) > 8
    assert resumed == whole
    one, other = (SparseEncoder.load(tmp_path / name) for name in ("whole", "stopped"))
    assert torch.equal(one.image_head.weight, other.image_head.weight)


def test_a_checkpoint_of_another_width_is_refused(data: Path, tmp_path: Path) -> None:
    train_encoder("tiny", data, tmp_path / "run", {"epochs": 1.0})
    with pytest.raises(SparsightError, match="features differ"):
        train_encoder("tiny", data, tmp_path / "run", {"epochs": 1.0, "features": 32})


def test_a_loss_that_is_no_number_stops_the_run(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="lower lr"):
        train_encoder("tiny", data, tmp_path / "run", {**SETTINGS, "lr": 1e30})
