"""One captioner from several runs: the mean of their projectors and adapters.

Model soups (Wortsman et al. 2022, arXiv 2203.05482): runs that began with the same weights end near enough to
one another that their mean is a model too, and often a better one. It costs nothing when it answers.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparse_encoder.errors import SparsightError
from sparse_encoder.wheel import file_sha256
from vlm.model_folder import ModelFolder, encoder_files, read_model
from vlm.projector_file import PROJECTOR

_ADAPTER = "adapter/adapter_model.safetensors"


def average_runs(models: Sequence[str | Path], weights: Sequence[float], out: Path) -> None:
    """Writes the weighted mean of the models' projectors and adapters as a model folder.

    models: two or more, by name or path, of one encoder, language model and shape. weights: one a
    model, above 0; only their ratios count. Encoder, atlas and all else are those of the first model; its
    measured doses are left out, since they were another captioner's. Raises SparsightError, which
    names what differs.
    """
    if len(models) < 2:
        raise SparsightError(
            f"{len(models)} model was given; a mean needs two or more", param="models"
        )
    if len(weights) != len(models) or min(weights) <= 0:
        raise SparsightError(
            f"weights={list(weights)} for {len(models)} models: expected one above 0 for each",
            param="weight",
        )
    folders = [read_model(model) for model in models]
    if out.exists() and any(out.resolve() == folder.path.resolve() for folder in folders):
        raise SparsightError(
            f"{out} is one of the models; give another --out, nothing was written", param="out"
        )
    _refuse_unlike(folders)
    shares = [weight / sum(weights) for weight in weights]
    means = {name: _mean(folders, shares, name) for name in (PROJECTOR, _ADAPTER)}
    _write(folders, shares, means, out)


def _refuse_unlike(folders: Sequence[ModelFolder]) -> None:
    first = folders[0]
    for other in folders[1:]:
        for what, one, two in (
            ("language model", first.config["llm"], other.config["llm"]),
            ("encoder", _encoder(first), _encoder(other)),
            ("soft tokens", first.config["projector"], other.config["projector"]),
            ("adapter", _adapter_shape(first), _adapter_shape(other)),
        ):
            if one != two:
                raise SparsightError(
                    f"{other.path} has another {what} than {first.path} ({two} and {one}): their "
                    "weights mean other things, and have no mean",
                    param="models",
                )


def _encoder(folder: ModelFolder) -> list[str]:
    return [file_sha256(folder.path / name)[:16] for name in encoder_files(folder.config)]


def _adapter_shape(folder: ModelFolder) -> dict[str, Any]:
    config = json.loads((folder.path / "adapter/adapter_config.json").read_text())
    shape = {key: config.get(key) for key in ("r", "lora_alpha", "use_dora", "use_rslora")}
    return {**shape, "target_modules": sorted(config["target_modules"])}


def _mean(folders: Sequence[ModelFolder], shares: Sequence[float], name: str) -> dict[str, Tensor]:
    """In float32, kept in each tensor's own type; one model's weights are held at a time."""
    total: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    for folder, share in zip(folders, shares, strict=True):
        try:
            state = load_file(folder.path / name)
        except (OSError, SafetensorError) as error:
            raise SparsightError(f"cannot read {folder.path / name}: {error}") from error
        shapes = {key: value.shape for key, value in state.items()}
        if total and shapes != {key: value.shape for key, value in total.items()}:
            raise SparsightError(
                f"{folder.path / name} holds other tensors than that of {folders[0].path}",
                param="models",
            )
        kinds = kinds or {key: value.dtype for key, value in state.items()}
        for key, value in state.items():
            part = value.float() * share
            total[key] = total[key] + part if key in total else part
    return {key: value.to(kinds[key]).contiguous() for key, value in total.items()}


def _write(
    folders: Sequence[ModelFolder],
    shares: Sequence[float],
    means: dict[str, dict[str, Tensor]],
    out: Path,
) -> None:
    from vlm.train_run import stamp  # which brings the training code along

    first = folders[0]
    try:
        shutil.copytree(first.path, out, dirs_exist_ok=True, ignore=_leave_out)
        (out / "adapter").mkdir(exist_ok=True)
        save_file(means[PROJECTOR], out / PROJECTOR)
        save_file(means[_ADAPTER], out / _ADAPTER, metadata={"format": "pt"})
        runs = [
            {"share": share, "fingerprint": folder.fingerprint, "vlm_run": folder.config["vlm_run"]}
            for share, folder in zip(shares, folders, strict=True)
        ]
        config = {**first.config, "name": out.resolve().name, "vlm_run": {"average": runs}}
        (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        stamp(out)
    except OSError as error:
        raise SparsightError(
            f"cannot write {out}: {error}; free some space or give another --out", param="out"
        ) from error


def _leave_out(folder: str, names: list[str]) -> list[str]:
    """What the mean does not take over: logs, checkpoints, doses, weights that are written anew."""
    left = {"checkpoint.pt", "losses.json", "metrics.jsonl", "doses.parquet", PROJECTOR}
    return [name for name in names if name in left or name == Path(_ADAPTER).name]
