"""CLIP's vocabulary (OpenAI, MIT), taken from the wheel of open_clip, which carries it."""

import shutil
from pathlib import Path

from sparse_encoder.parts import Part

VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"


def _copy(unpacked: Path, out: Path) -> None:
    shutil.copyfile(unpacked / "open_clip" / VOCABULARY_FILE, out / VOCABULARY_FILE)


CLIP_VOCABULARY_PART = Part(
    name="clip-vocabulary",
    requirement="open_clip_torch==3.3.0",
    filename="open_clip_torch-3.3.0-py3-none-any.whl",
    sha256="c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce",
    convert=_copy,
    space=10_000_000,  # wheel 1.5 MB, unpacked 4 MB
)
"""One file, gzipped text: a merge a line, most frequent first."""
