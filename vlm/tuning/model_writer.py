"""The model folder that tuning leaves: encoder, projector, adapter, atlas, in `read_model`'s layout."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from sparse_encoder.any_encoder import TOWERS, AnyEncoder
from sparse_encoder.encoder import WEIGHTS, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.model_folder import find_model
from sparse_encoder.sae_encoder import SaeEncoder
from sparse_encoder.towers.hub import export
from sparse_encoder.wheel import file_sha256
from vlm.any_llm import IN_MODEL
from vlm.llm_part import LLM_PART
from vlm.projector_file import PROJECTOR, projector_entry
from vlm.train_run import stamp
from vlm.tuning.captioner import TunedCaptioner
from vlm.tuning.config import TuneRun


def write_encoder(encoder: AnyEncoder, source: Path, out: Path) -> dict[str, Any]:
    """Puts the encoder into `out`, once; its entry in ``config.json``."""
    if isinstance(encoder, SaeEncoder):
        raise SparsightError(
            f"{source} is an imported autoencoder, which cannot be tuned on; give the encoder that it was "
            "trained on, or a sparse one",
            param="encoder",
        )
    if isinstance(encoder, SparseEncoder):
        if source.resolve() != out.resolve():
            shutil.copyfile(source / WEIGHTS, out / WEIGHTS)
        return dict(encoder.config_json())
    folder = out / TOWERS
    if not (folder / "config.json").is_file():
        part = out / f"{TOWERS}.part"
        shutil.rmtree(part, ignore_errors=True)
        export(encoder.clip, part)
        part.rename(folder)
    return {**encoder.config_json(), "folder": TOWERS}


def write_random_llm(llm: Any, tokenizer: Any, out: Path) -> None:
    """Puts a language model of random weights into `out`, once, since no hub has it."""
    folder = out / IN_MODEL
    if not (folder / "config.json").is_file():
        part = out / f"{IN_MODEL}.part"
        shutil.rmtree(part, ignore_errors=True)
        llm.save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(folder)


def write_model(
    captioner: TunedCaptioner,
    encoder: AnyEncoder,
    encoder_entry: dict[str, Any],
    llm: str,
    chat_template: str,
    run: TuneRun,
    out: Path,
) -> None:
    """Projector and adapter in fp16, the config, and the atlas stamped with the fingerprint."""
    adapter = out / "adapter"
    adapter.mkdir(exist_ok=True)
    try:
        save_file(_half(captioner.projector.state_dict()), out / PROJECTOR)
        save_file(
            _half(get_peft_model_state_dict(captioner.llm)),
            adapter / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
    except (OSError, RuntimeError) as error:  # a full disk is either
        raise SparsightError(
            f"the model could not be written to {out} ({error}); free some space, and run the same "
            "command again: the last checkpoint is whole"
        ) from error
    shape = captioner.llm.peft_config["default"]
    shape.base_model_name_or_path = None  # no path of ours
    shape.inference_mode = True
    shape.save_pretrained(adapter)
    config = {
        "name": out.name,
        "encoder": encoder_entry,
        "projector": projector_entry(run.groups, run.removal),
        "llm": llm,
        **({"chat_template": chat_template} if chat_template else {}),
        "llm_made_of": _origin(captioner.llm.get_base_model(), llm, out),
        "run": {"activation": encoder.image_head.activation},
        "vlm_run": run.to_json(),
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    stamp(out)


def encoder_folder(given: Path | None, start_from: str) -> Path:
    """Where a run's encoder lies: as given, else that of the model it starts from, else in the box."""
    return given or find_model(start_from or "sparsight-mini")


def _half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().half().contiguous() for name, value in state.items()}


def _origin(llm: Any, name: str, out: Path) -> dict[str, Any]:
    """What names the language model's weights: digests of a folder's files, or a hub's revision.

    They enter the fingerprint, since they stand in ``config.json``.
    """
    folder = out / name if name.startswith("./") else Path(name).expanduser()
    if name != LLM_PART.name and folder.is_dir():
        files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin"))
        return {file.name: file_sha256(file) for file in (folder / "config.json", *files)}
    return {"revision": getattr(llm.config, "_commit_hash", None)}
