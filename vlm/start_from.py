"""Weights that a captioner's run begins with: projector and adapter of a finished model folder."""

import json
import logging
from pathlib import Path
from typing import Any, NoReturn

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from sparse_encoder.errors import SparsightError
from sparse_encoder.wheel import file_sha256
from vlm.model_folder import encoder_files, read_model
from vlm.projector import Projector
from vlm.projector_file import PROJECTOR, load_projector

log = logging.getLogger(__name__)
_ADAPTER = "adapter/adapter_model.safetensors"
_ADAPTER_CONFIG = "adapter/adapter_config.json"
_SHAPE = ("r", "lora_alpha", "use_rslora", "use_dora", "target_modules")


def starting_folder(model: str, out: Path) -> Path:
    """The folder of the model, by name or path, that a run begins with. Refuses `out` itself."""
    folder = read_model(model).path
    if folder.resolve() == out.resolve():
        raise SparsightError(
            f"start_from={model!r} is the run's own result folder, whose weights would be "
            "overwritten; give another --out",
            param="start_from",
        )
    return folder


def start_with(projector: Projector, model: Any, llm: str, folder: Path, encoder: Path) -> None:
    """Copies the folder's projector and adapter into a fresh captioner.

    model: of peft, with fresh LoRA. llm: name of its language model. encoder: folder of the run's
    encoder; one with other weights is allowed, and warned of. Raises SparsightError, which names
    what differs, where the captioner's shape is another.
    """
    config = json.loads((folder / "config.json").read_text())
    theirs = str(folder / config["llm"]) if config["llm"].startswith("./") else config["llm"]
    if theirs != llm and Path(theirs).resolve() != Path(llm).resolve():
        _refuse(folder, f"its language model is {theirs!r}, this run's is {llm!r}", "llm")
    if _digest(folder, config) != _digest(
        encoder, json.loads((encoder / "config.json").read_text())
    ):
        log.warning(
            "%s was trained on another encoder than that of %s: its projector's features may mean "
            "other things here",
            folder,
            encoder,
        )
    _start_adapter(model, folder)  # checked before anything is changed
    try:
        old = load_projector(folder, projector.config)
    except SparsightError as error:
        _refuse(folder, f"its {PROJECTOR} has another shape ({error})", "groups")
    projector.load_state_dict(old.state_dict())
    log.info("beginning with the projector and adapter of %s", folder)


def _digest(folder: Path, config: dict[str, Any]) -> str:
    """Of the encoder's weights, in a model's folder or in one of their own."""
    weights = encoder_files(config)[-1] if "encoder" in config else "model.safetensors"
    return file_sha256(folder / weights)


@torch.no_grad()
def _start_adapter(model: Any, folder: Path) -> None:
    ours = json.loads(json.dumps(model.peft_config["default"].to_dict(), default=sorted))
    try:
        theirs = json.loads((folder / _ADAPTER_CONFIG).read_text())
        weights = {k: v.float() for k, v in load_file(folder / _ADAPTER).items()}
    except (OSError, ValueError, SafetensorError) as error:
        _refuse(folder, f"its adapter cannot be read ({error})", "start_from")
    for key in _SHAPE:
        one, two = (_plain(c.get(key)) for c in (theirs, ours))
        if one != two:
            _refuse(folder, f"its adapter has {key}={one}, this run has {two}", "rank")
    asked = get_peft_model_state_dict(model)
    # peft passes over keys that it does not know.
    if weights.keys() != asked.keys():
        odd = sorted(weights.keys() ^ asked.keys())
        _refuse(folder, f"its adapter holds other weights ({odd[0]} among {len(odd)})", "llm")
    set_peft_model_state_dict(model, weights)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value or False


def _refuse(folder: Path, why: str, param: str) -> NoReturn:
    raise SparsightError(
        f"a run cannot begin with {folder}: {why}; set {param} to fit, or leave start_from out",
        param=param,
    )
