from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparse_encoder import train as module
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.encoder_run import encoder_run
from sparse_encoder.errors import SparsightError
from sparse_encoder.train import HeadTrainer, train_encoder
from tests.tiny_model import photo, write_tiny_data

SETTINGS = {"epochs": 30.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tiny_data(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("changed", [{}, {"activation": "batch_topk", "k": 5}])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]
) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY", 4)
    settings = {**SETTINGS, **changed}
    whole = train_encoder("tiny", data, tmp_path / "whole", settings)
    loss = HeadTrainer.loss

    def dying(self: HeadTrainer, step: int, random: object) -> torch.Tensor:
        if step == 6:
            raise KeyboardInterrupt
        return loss(self, step, random)  # type: ignore[arg-type]

    monkeypatch.setattr(HeadTrainer, "loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train_encoder("tiny", data, tmp_path / "stopped", settings)
    monkeypatch.setattr(HeadTrainer, "loss", loss)
    resumed = train_encoder("tiny", data, tmp_path / "stopped", settings)
    assert len(whole) > 8
    assert resumed == whole
    one, other = (SparseEncoder.load(tmp_path / name) for name in ("whole", "stopped"))
    for name, tensor in one.image_head.state_dict().items():
        assert torch.equal(tensor, other.image_head.state_dict()[name]), name


def test_a_checkpoint_of_another_width_is_refused(data: Path, tmp_path: Path) -> None:
    train_encoder("tiny", data, tmp_path / "run", {"epochs": 1.0})
    with pytest.raises(SparsightError, match="features differ"):
        train_encoder("tiny", data, tmp_path / "run", {"epochs": 1.0, "features": 32})


def test_a_loss_that_is_no_number_stops_the_run(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="lower lr"):
        train_encoder("tiny", data, tmp_path / "run", {**SETTINGS, "lr": 1e30})


def test_a_top_k_head_keeps_k_features_when_it_is_loaded_again(data: Path, tmp_path: Path) -> None:
    settings = {"activation": "topk", "k": 5, "bias": 0.0}
    train_encoder("tiny", data, tmp_path / "run", settings)
    encoder = SparseEncoder.load(tmp_path / "run")
    assert ((encoder.encode_texts(["a dog", "a red ball"]) > 0).sum(1) == 5).all()
    per_row = encoder.encode_images([photo(0), photo(1)]).offset.diff()
    assert (per_row == 5).all()


def test_an_l1_weight_gives_a_sparser_code(data: Path, tmp_path: Path) -> None:
    density = {}
    for weight in (0.0, 1.0):
        settings = {**SETTINGS, "density": 1.0, "l1": weight, "lr": 1e-2}
        train_encoder("tiny", data, tmp_path / f"l1-{weight}", settings)
        encoder = SparseEncoder.load(tmp_path / f"l1-{weight}")
        density[weight] = encoder.encode_images([photo(i) for i in range(8)]).density()
    assert 0 < density[1.0] < 0.7 * density[0.0]


def test_a_dense_head_with_a_hidden_layer_is_loaded_as_such_and_gives_no_codes(
    data: Path, tmp_path: Path
) -> None:
    train_encoder("tiny", data, tmp_path / "run", {"activation": "identity", "hidden": 24})
    encoder = SparseEncoder.load(tmp_path / "run")
    assert encoder.text_head.hidden is not None
    assert (encoder.encode_texts(["a dog"]) < 0).any()
    with pytest.raises(SparsightError, match="dense"):
        encoder.encode_images([photo(0)])


def test_the_scale_starts_where_the_run_says_but_not_above_its_cap() -> None:
    run = encoder_run("tiny", {})
    inputs: Any = SimpleNamespace(width=4, text_width=5)
    start = HeadTrainer(inputs, replace(run, scale_start=20.0, cap=50.0)).log_scale.exp()
    capped = HeadTrainer(inputs, replace(run, scale_start=80.0, cap=50.0)).log_scale.exp()
    assert float(start.detach()) == pytest.approx(20.0)
    assert float(capped.detach()) == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"activation": "gelu"}, "relu or identity"),
        ({"activation": "topk"}, "k=0"),
        ({"activation": "topk", "k": 65}, "1 to 64"),
        ({"l1": -0.1}, "0 or more"),
        ({"hidden": 8}, "activation=identity"),
        ({"hidden": -8, "activation": "identity"}, "hidden=-8"),
        ({"scale_start": 0.0}, "above 0"),
        ({"cap": -1.0}, "above 0"),
    ],
)
def test_settings_that_make_no_run_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        encoder_run("tiny", settings)


def test_heads_at_fixed_shares_of_a_run_stay_and_load(data: Path, tmp_path: Path) -> None:
    losses = train_encoder("tiny", data, tmp_path / "run", SETTINGS)
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    shares = {max(1, round(share * len(losses))) for share in (0.01, 0.03, 0.1, 0.3, 1.0)}
    assert kept == [f"step-{n:08d}" for n in sorted(shares)]
    first, last, final = (
        SparseEncoder.load(tmp_path / "run" / name).image_head.weight
        for name in (f"checkpoints/{kept[0]}", f"checkpoints/{kept[-1]}", "")
    )
    assert torch.equal(last, final)
    assert not torch.allclose(first, last, atol=1e-2)
