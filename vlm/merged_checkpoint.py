"""The language model with its LoRA merged, as a plain checkpoint that vLLM serves unchanged.

``sparsight.json`` beside the weights names the model that it belongs to and the sha256 of each
file. The name under which vLLM is to serve it carries the model's fingerprint, so that a gateway
can tell at once whether a server has its own model or another's.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from sparse_encoder.errors import SparsightError
from sparse_encoder.parts import cache_dir
from sparse_encoder.wheel import Progress, file_sha256
from vlm.pipeline import Pipeline
from vlm.template import end_of_turn

MANIFEST = "sparsight.json"


@dataclass(frozen=True)
class MergedCheckpoint:
    path: Path
    served_name: str


def served_name(name: str, fingerprint: str) -> str:
    """What vLLM has to call the model: its name, and 12 digits of its fingerprint."""
    return f"{name}-{fingerprint[:12]}"


def write_merged(pipeline: Pipeline, out: Path, *, force: bool = False) -> MergedCheckpoint:
    """Writes the checkpoint into `out`, which is there whole or not at all.

    Raises SparsightError where `out` is there already (unless `force`) or cannot be written.
    """
    if out.exists() and not force:
        raise SparsightError(f"{out} is there already; choose another or add --force", param="out")
    if out.exists() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise SparsightError(
            f"{out} is not empty and no export of ours, so it is not overwritten; choose another",
            param="out",
        )
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _fill(pipeline, aside)
        if out.exists():
            shutil.rmtree(out)
        aside.rename(out)
    except OSError as error:
        raise SparsightError(
            f"cannot write {out}: {error}; check the free space and the permissions there",
            param="out",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return MergedCheckpoint(out, served_name(pipeline.name, pipeline.fingerprint))


def cached_merged(pipeline: Pipeline, progress: Progress | None = None) -> MergedCheckpoint:
    """The checkpoint in the user's cache, whole by hash; written there where it is not."""
    out = cache_dir() / "merged" / f"{pipeline.name}-{pipeline.fingerprint[:16]}"
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):
        if not is_merged(out, pipeline.fingerprint):
            if progress is not None:
                progress("writing the merged language model for vLLM", None)
            shutil.rmtree(out, ignore_errors=True)
            write_merged(pipeline, out)
    return MergedCheckpoint(out, served_name(pipeline.name, pipeline.fingerprint))


def is_merged(folder: Path, fingerprint: str) -> bool:
    """Whether `folder` is the whole export of the model with that fingerprint."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = manifest["files"].items()
        whole = bool(files) and all(file_sha256(folder / name) == hash_ for name, hash_ in files)
        return bool(manifest["fingerprint"] == fingerprint) and whole
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _fill(pipeline: Pipeline, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pipeline.model.save_pretrained(folder)
    pipeline.tokenizer.save_pretrained(folder)
    # vLLM takes defaults of sampling and the tokens that end an answer from here: ours are one.
    ends = {"eos_token_id": end_of_turn(pipeline.tokenizer)}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    hashes = {file.name: file_sha256(file) for file in sorted(folder.iterdir())}
    manifest = {
        "name": pipeline.name,
        "fingerprint": pipeline.fingerprint,
        "served_model_name": served_name(pipeline.name, pipeline.fingerprint),
        "files": hashes,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
