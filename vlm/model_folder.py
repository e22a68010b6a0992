"""A model on disk: what it is made of, and the fingerprint that names it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_encoder.any_encoder import TOWERS
from sparse_encoder.errors import SparsightError
from sparse_encoder.mini_parts import IMAGE_TRUNK_PART, TEXT_TRUNK_PART
from sparse_encoder.model_folder import find_model
from sparse_encoder.wheel import file_sha256
from vlm.llm_part import LLM_PART

DEFAULT_MODEL = "sparsight-mini"

_ENCODER = ("encoder.safetensors",)
_TOWERS = (f"{TOWERS}/config.json", f"{TOWERS}/model.safetensors")
_TRAINED = (
    "projector.safetensors",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)
_PARTS = {part.name: part for part in (IMAGE_TRUNK_PART, TEXT_TRUNK_PART, LLM_PART)}


class ModelError(SparsightError):
    """A model folder that is missing, incomplete or not readable."""

    code = "bad_model"


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder, checked to be complete."""

    path: Path
    config: dict[str, Any]
    fingerprint: str  # sha256 over config, trained files and the recipes of assembled parts

    @property
    def name(self) -> str:
        return str(self.config["name"])


def read_encoder_model(model: str | Path) -> ModelFolder:
    """`read_model` for what needs no captioner: a folder with an encoder alone will do.

    Such as `sparsight features import-sae` and `sparsight train encoder` write.
    """
    path = find_model(model)
    try:
        config = json.loads((path / "config.json").read_text())
        if "llm" in config or "encoder" not in config:
            return read_model(model)
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        files = [path / "encoder.safetensors"] if "sae" not in config else []
        for file in files:  # of an imported autoencoder the config holds all hashes
            digest.update(f"{file.name} {file_sha256(file)}\n".encode())
        parts = [config["encoder"]["image_trunk"], config["encoder"]["text_trunk"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SparsightError):
            raise
        raise ModelError(
            f"{path} is no complete encoder ({error}); it needs config.json and the encoder's "
            "weights, as `sparsight train encoder` or `sparsight features import-sae` writes them"
        ) from error
    _add_parts(digest, parts)
    return ModelFolder(path, config, digest.hexdigest())


def encoder_files(config: dict[str, Any]) -> tuple[str, ...]:
    """Names of the files that a model's encoder is read from."""
    return _TOWERS if config["encoder"].get("folder") else _ENCODER


def read_model(model: str | Path) -> ModelFolder:
    """The model of that name or path. Raises SparsightError with what is missing."""
    path = find_model(model)
    try:
        config = json.loads((path / "config.json").read_text())
        parts = [config["encoder"]["image_trunk"], config["encoder"]["text_trunk"], config["llm"]]
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        for name in (*encoder_files(config), *_TRAINED):
            digest.update(f"{name} {file_sha256(path / name)}\n".encode())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is no complete model ({error}); it needs config.json, "
            f"{_ENCODER[0]} or {TOWERS}/, {', '.join(_TRAINED)} and features/, as `sparsight train vlm` writes them"
        ) from error
    _add_parts(digest, parts)
    return ModelFolder(path, config, digest.hexdigest())


def _add_parts(digest: Any, parts: Sequence[str]) -> None:
    for name in parts:
        if name in _PARTS:
            digest.update(f"{name} {_PARTS[name].key}\n".encode())
