"""The kept checkpoints of a run, each an encoder that is loaded when it is looked at.

Two kinds of run keep some: trained heads on frozen trunks (`sparse_encoder.train`) and pretrained
towers (`sparse_encoder.pretrain`), on any number of ranks, shared out or not.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load as load_shards

from sparse_encoder.checkpoint import CHECKPOINT
from sparse_encoder.encoder import WEIGHTS, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.evaluated import Evaluated, FrozenTrunkEncoder, SparseClipEncoder
from sparse_encoder.kept_steps import step_of
from sparse_encoder.pretrain.loss import SparseContrast
from sparse_encoder.pretrain.sides import Side
from sparse_encoder.pretrain.state import checkpoints_of
from sparse_encoder.towers.config import SparseClipConfig
from sparse_encoder.towers.hub import load as load_exported
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.start_from import start_from
from sparse_encoder.trunk_cache import cached_texts

_STATE, _SHARDS, _AVERAGE = "run.json", "shards", "custom_checkpoint_0.pkl"


@dataclass(frozen=True)
class Stage:
    """One kept checkpoint."""

    step: int  # finished steps
    share: float  # of the last kept checkpoint's steps, (0, 1]
    folder: Path
    load: Callable[[], Evaluated]


def find_stages(run: Path) -> list[Stage]:
    """The kept checkpoints of a run's folder, first to last; the last is what features are followed from.

    Raises SparsightError where there are fewer than two, or where they are of no known kind.
    """
    folders = sorted(checkpoints_of(run), key=lambda folder: step_of(folder.name))
    if len(folders) < 2:
        why = "holds one kept checkpoint" if folders else "holds no kept checkpoint"
        if (run / CHECKPOINT).is_file() and not folders:
            why += " (its run was trained before heads were kept; train it again)"
        raise SparsightError(
            f"{run} {why}, expected at least two below {run / 'checkpoints'}; give the --out of a "
            "`sparsight train encoder` run, which keeps those at 1, 3, 10, 30 and 100 % of its steps",
            param="run",
            code="no_checkpoints",
        )
    last = step_of(folders[-1].name)
    stages = []
    for folder in folders:
        step = step_of(folder.name)
        stages.append(Stage(step, step / last, folder, _loader(run, folder)))
    return stages


def _loader(run: Path, folder: Path) -> Callable[[], Evaluated]:
    if (folder / WEIGHTS).is_file():
        return lambda: CachedTextEncoder(SparseEncoder.load(folder))
    if (folder / _STATE).is_file():
        return lambda: SparseClipEncoder(_pretrained(run, folder))
    raise SparsightError(
        f"{folder} is no checkpoint of ours: it holds neither {WEIGHTS} nor {_STATE}; delete it, or "
        "give another run",
        param="run",
    )


class CachedTextEncoder(FrozenTrunkEncoder):
    """Texts of a frozen trunk pass it once for all stages of a run."""

    def text_vectors(self, texts: Any) -> torch.Tensor:
        encoder = self.encoder
        return cached_texts(list(texts), encoder.text_trunk, encoder.config.text_trunk).float()


def _pretrained(run: Path, folder: Path) -> SparseClip:
    """The model of a pretraining checkpoint; the average of its weights where the run keeps one."""
    try:
        settings = json.loads((folder / _STATE).read_text())["run"]
        clip = _empty(run, settings)
        if (folder / _SHARDS).is_dir():
            weights: dict[str, Any] = {"weights": clip.state_dict()}
            with warnings.catch_warnings():  # one process is what is meant
                warnings.filterwarnings("ignore", "torch.distributed is")
                load_shards(weights, checkpoint_id=folder / _SHARDS, no_dist=True)
            clip.load_state_dict(weights["weights"])
        elif settings["ema"]:
            average = torch.load(folder / _AVERAGE, map_location="cpu", weights_only=True)
            inner = {k[7:]: v for k, v in average.items() if k.startswith("module.")}
            clip.load_state_dict(inner)
        else:
            for part, file in _files(clip, folder):
                part.load_state_dict(load_file(file))
    except (
        OSError,
        KeyError,
        ValueError,
        RuntimeError,
        SafetensorError,
        UnpicklingError,
        CheckpointException,
    ) as error:
        if isinstance(error, SparsightError):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SparsightError(
            f"the checkpoint {folder} cannot be read ({first}); delete it, or give another run",
            param="run",
        ) from error
    return clip


def _empty(run: Path, settings: dict[str, Any]) -> SparseClip:
    """A model of the run's shape, its weights still to be loaded."""
    if (run / "model").is_dir():  # what a finished run exports; it needs no other file
        return load_exported(run / "model")
    config = SparseClipConfig.from_json(settings["model"])
    return (
        start_from(settings["start_from"], config)
        if settings["start_from"]
        else (SparseClip.build(config))
    )


def _files(clip: SparseClip, folder: Path) -> list[tuple[torch.nn.Module, Path]]:
    """The modules that a run gives to accelerate, in its order, and the file of each.

    A frozen side is not among them (`PreTrainer._wrap`).
    """
    sides = (
        Side(clip.image_trunk, clip.image_projection),
        Side(clip.text_trunk, clip.text_projection),
    )
    parts = [
        p for p in (*sides, SparseContrast(clip)) if any(w.requires_grad for w in p.parameters())
    ]
    names = ["model.safetensors", *(f"model_{i}.safetensors" for i in range(1, len(parts)))]
    return [(part, folder / name) for part, name in zip(parts, names, strict=True)]
