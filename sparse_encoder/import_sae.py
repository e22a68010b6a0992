"""A model's folder made of a sparse autoencoder and the dense encoder that it was trained on."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sparse_encoder.clip_trunks import block_of
from sparse_encoder.encoder import WEIGHTS
from sparse_encoder.errors import SparsightError
from sparse_encoder.imported_sae import CONFIG as SAE_CONFIG
from sparse_encoder.imported_sae import WEIGHTS as SAE_WEIGHTS
from sparse_encoder.imported_sae import ImportedSae
from sparse_encoder.model_folder import find_model, shipped_models
from sparse_encoder.sae_encoder import CLIP, SAE, SaeEncoder
from sparse_encoder.towers.config import ImageTowerConfig, SparseClipConfig, TextTowerConfig
from sparse_encoder.towers.hub import export
from sparse_encoder.towers.start_from import start_from
from sparse_encoder.wheel import file_sha256

_CONFIG = "config.json"
_OF_ITS_FEATURES = ("features", "README.md")  # of a model: they speak of features that are not here


def import_sae(source: Path, model: str, out: Path, *, overwrite: bool = False) -> SaeEncoder:
    """Writes the folder `out`, whole or not at all, and gives the encoder in it.

    source: folder or weights' file of the autoencoder. model: one of ours, by name or folder, whose
    image trunk it was trained on; or a CLIP, as `start_from` takes it. Raises SparsightError where
    the two do not fit, or `out` is taken.
    """
    _refuse_taken(out, overwrite)
    sae = ImportedSae.load(source)
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        sae.save(aside / SAE)
        ours = _folder_of_ours(model)
        config = _with_heads(ours, aside) if ours else _with_clip(sae, model, aside)
        made_of = {
            "weights": file_sha256(aside / SAE / SAE_WEIGHTS),
            "config": file_sha256(aside / SAE / SAE_CONFIG),
            "hook": sae.hook,
            "features": sae.n_features,
        }
        config = {**config, "name": out.name, "sae": {**config["sae"], **made_of}}
        (aside / _CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        encoder = SaeEncoder.load_imported(aside)  # what does not fit is not left behind
        if out.exists():
            shutil.rmtree(out)
        aside.replace(out)
    except (OSError, SafetensorError) as error:
        raise SparsightError(
            f"cannot write {out}: {error}; free some space, or give another folder", param="out"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return encoder


def _folder_of_ours(model: str) -> Path | None:
    """The folder of a model with heads of ours, None for anything else."""
    if model not in shipped_models() and not (Path(model).expanduser() / _CONFIG).is_file():
        return None
    folder = find_model(model)
    try:
        config = json.loads((folder / _CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise SparsightError(f"cannot read {folder / _CONFIG}: {error}", param="model") from error
    if "sae" in config:
        raise SparsightError(
            f"{folder} is itself an imported autoencoder; give the dense encoder under it",
            param="model",
        )
    return folder if "encoder" in config else None


def _with_heads(folder: Path, aside: Path) -> dict[str, Any]:
    """Our heads, and the captioner that reads their codes where the model has one."""
    config = json.loads((folder / _CONFIG).read_text())
    for part in folder.iterdir():
        if part.name in (_CONFIG, *_OF_ITS_FEATURES) or part.name.startswith("."):
            continue
        (shutil.copytree if part.is_dir() else shutil.copyfile)(part, aside / part.name)
    return {**config, "sae": {"dense": file_sha256(folder / WEIGHTS)}}


def _with_clip(sae: ImportedSae, model: str, aside: Path) -> dict[str, Any]:
    block_of(sae.hook)  # before a large file is read
    # Fresh heads come along, of which nothing is used; one feature a unit keeps them small.
    towers = ImageTowerConfig(frozen=True), TextTowerConfig(backbone=model, frozen=True)
    clip = start_from(model, SparseClipConfig(image=towers[0], text=towers[1], expansion=1.0))
    encoder = SaeEncoder.on_clip(sae, clip, "new")
    export(clip, aside / CLIP)
    digest = file_sha256(aside / CLIP / "model.safetensors")
    trunks = {k: v for k, v in asdict(encoder.config).items() if k in ("image_trunk", "text_trunk")}
    named = {key: name.replace("clip-new", f"clip-{digest[:16]}") for key, name in trunks.items()}
    return {"encoder": named, "sae": {"dense": digest}}


def _refuse_taken(out: Path, overwrite: bool) -> None:
    if out.is_file():
        raise SparsightError(f"{out} is a file; give a folder", param="out")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / SAE).is_dir():  # never remove what we did not write
        raise SparsightError(f"{out} holds other files; give a new folder", param="out")
    if not overwrite:
        raise SparsightError(
            f"{out} holds an imported autoencoder already; --force replaces it and its atlas, or "
            "give a new folder",
            param="out",
        )
