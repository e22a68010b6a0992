from pathlib import Path

import pytest
import torch

from sparse_encoder import checkpoint
from sparse_encoder.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from sparse_encoder.errors import SparsightError

RUN = {"lr": 0.1, "groups": (3, 3)}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, RUN, {"losses": [2.0, 1.0], "weight": torch.arange(3)})
    state = load_checkpoint(tmp_path, RUN)
    assert state is not None
    assert state["losses"] == [2.0, 1.0]
    assert state["weight"].tolist() == [0, 1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == [CHECKPOINT, "losses.json"]


def test_a_new_run_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, RUN) is None


def test_another_runs_checkpoint_is_refused_by_the_settings_that_differ(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, RUN, {"losses": []})
    with pytest.raises(SparsightError, match=r"other settings \(lr differ\)"):
        load_checkpoint(tmp_path, {**RUN, "lr": 0.2})


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(SparsightError, match="damaged"):
        load_checkpoint(tmp_path, RUN)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("write")])
def test_the_previous_checkpoint_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    save_checkpoint(tmp_path, RUN, {"losses": [1.0]})

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(SparsightError, match="free some space"):
        save_checkpoint(tmp_path, RUN, {"losses": [1.0, 2.0]})
    monkeypatch.undo()
    state = load_checkpoint(tmp_path, RUN)
    assert state is not None
    assert state["losses"] == [1.0]
    assert not (tmp_path / "checkpoint.part").exists()
