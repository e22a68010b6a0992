"""Checkpoints of a training run: written whole or not at all, and only for the run they came from."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from sparse_encoder.errors import SparsightError

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, run: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Writes `state` as the folder's checkpoint; the previous one lives until it is whole.

    run: the exact settings of the run, JSON types only. state holds tensors and plain types,
    ``losses`` (one a step) among them, which are also written as losses.json.
    """
    part = folder / "checkpoint.part"
    try:
        torch.save({**state, "run": json.dumps(run)}, part)
        os.replace(part, folder / CHECKPOINT)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        part.unlink(missing_ok=True)
        raise SparsightError(
            f"no checkpoint could be written to {folder} ({error}); free some space, and run the "
            "same command again: it goes on from the previous checkpoint"
        ) from error
    (folder / "losses.json").write_text(json.dumps(state["losses"]))


def load_checkpoint(folder: Path, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """The folder's checkpoint on the CPU, None where there is none yet.

    Raises SparsightError where it is damaged or belongs to a run with other settings.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        made_by = json.loads(state["run"])
    except (RuntimeError, ValueError, KeyError, EOFError, TypeError, UnpicklingError) as error:
        raise SparsightError(f"{path} is no checkpoint of ours, or damaged; delete it") from error
    # Through JSON, so that tuples compare equal to the lists they come back as.
    asked = json.loads(json.dumps(run))
    if made_by != asked:
        other = sorted(k for k in {*made_by, *asked} if made_by.get(k) != asked.get(k))
        raise SparsightError(
            f"{path} belongs to a run with other settings ({', '.join(other)} differ); "
            "give another --out, or delete it"
        )
    return state
