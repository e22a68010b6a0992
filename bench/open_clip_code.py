"""Files of open_clip to compare with: its losses, its tokenizer, its models.

The package itself is not installed: it needs torchvision, which nothing here may need.
"""

import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from sparse_encoder.parts import Part, ensure_part
from sparse_encoder.towers.clip_vocabulary import CLIP_VOCABULARY_PART


def _copy(unpacked: Path, out: Path) -> None:
    shutil.copytree(unpacked / "open_clip", out / "open_clip")


OPEN_CLIP_CODE_PART = Part(
    name="open-clip-code",
    requirement=CLIP_VOCABULARY_PART.requirement,
    filename=CLIP_VOCABULARY_PART.filename,
    sha256=CLIP_VOCABULARY_PART.sha256,
    convert=_copy,
    space=CLIP_VOCABULARY_PART.space,
)


def open_clip_folder() -> Path:
    """The package's folder, in the cache."""
    return ensure_part(OPEN_CLIP_CODE_PART) / "open_clip"


def open_clip_module(name: str) -> ModuleType:
    """``open_clip.NAME`` as a module of its own; name: loss or tokenizer."""
    spec = spec_from_file_location(f"open_clip_{name}", open_clip_folder() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
