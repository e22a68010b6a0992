"""Captions without photographs, one JSON object a line, gzip-compressed."""

import gzip
import json
import zlib
from pathlib import Path

from sparse_encoder.errors import SparsightError

CORPUS = "text/captions.jsonl.gz"


def read_captions(data: Path) -> list[str]:
    """Every caption of ``text/captions.jsonl.gz`` below `data`, in file order."""
    path = data / CORPUS
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [str(json.loads(line)["caption"]) for line in lines]
    except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise SparsightError(
            f"cannot read captions from {path}: {error}; expected one object a line with the "
            'key "caption"',
            param="data",
        ) from error
