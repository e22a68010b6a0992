"""One caption a photograph, for one photograph or a million.

Photographs are found, read, captioned in batches and handed on in the order given; at no time is
more than a batch of them held. A bad one becomes a result with an error, and the rest go on.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage, decode_image, open_image
from vlm.edits import Edit
from vlm.pipeline import DEFAULT_PROMPT, Pipeline, Sampling, caption_request

# Of the files in a folder; a file that is named itself is read whatever its name ends in.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
STDIN = "-"


@dataclass(frozen=True)
class Recipe:
    """All that a caption depends on besides the photograph."""

    fingerprint: str  # of the model
    prompt: str = DEFAULT_PROMPT
    edits: tuple[Edit, ...] = ()
    max_tokens: int = Sampling().max_tokens

    def to_json(self) -> dict[str, Any]:
        """As it stands in a caption log; equal recipes give equal objects."""
        return {
            "fingerprint": self.fingerprint,
            "prompt": self.prompt,
            "steering": {"edits": [edit.to_json() for edit in self.edits]},
            "max_tokens": self.max_tokens,
        }


@dataclass(frozen=True)
class Captioned:
    """One photograph's result: a caption with its receipt, or an error."""

    path: str
    caption: str | None = None
    receipt: dict[str, Any] | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """``path`` with ``caption`` and ``receipt``, or with ``error``."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, "caption": self.caption, "receipt": self.receipt}


def find_photos(paths: Iterable[str]) -> Iterator[str]:
    """The photographs meant by `paths`, folders searched to the bottom and each sorted by name.

    What leads to no photograph (a missing file, an empty folder) is passed on as it is, so that
    reading it says why.
    """
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        n_found = 0
        for found in _search(path):
            n_found += 1
            yield found
        if not n_found:
            yield path


def _search(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in inside:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):  # a link may lead back up
            yield from _search(entry.path)
        elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
            yield entry.path


def count_photos(paths: Iterable[str]) -> tuple[int, int]:
    """How many find_photos gives, and how many of them are there to be read."""
    n_found = n_readable = 0
    for path in find_photos(paths):
        n_found += 1
        n_readable += path == STDIN or os.path.isfile(path)
    return n_found, n_readable


def explain_unreadable(paths: Iterable[str]) -> Iterator[Captioned]:
    """The errors among the photographs of `paths`; needs no model."""
    for path in find_photos(paths):
        photo = _read_photo(path)
        if isinstance(photo, Captioned):
            yield photo


def caption_photos(
    pipeline: Pipeline, paths: Iterable[str], recipe: Recipe, *, batch_size: int = 8
) -> Iterator[Captioned]:
    """One result a path, in order. Raises SparsightError where the recipe itself is refused."""
    remaining = iter(paths)
    while batch := list(islice(remaining, batch_size)):
        photos = [_read_photo(path) for path in batch]
        requests = [
            replace(
                caption_request(
                    photo,
                    prompt=recipe.prompt,
                    edits=recipe.edits,
                    sampling=Sampling(max_tokens=recipe.max_tokens),
                ),
                want_receipt=True,
            )
            for photo in photos
            if isinstance(photo, DecodedImage)
        ]
        answers = iter(pipeline.answer(requests) if requests else [])
        for path, photo in zip(batch, photos, strict=True):
            if not isinstance(photo, DecodedImage):
                yield photo
                continue
            answer = next(answers)
            receipt = None if answer.receipt is None else answer.receipt.to_json()
            yield Captioned(path, answer.text, receipt)


def _read_photo(path: str) -> DecodedImage | Captioned:
    """The photograph at `path` (``-``: standard input), or the result that says why there is none."""
    try:
        if path == STDIN:
            return decode_image(sys.stdin.buffer.read())
        if os.path.isdir(path):
            return Captioned(path, error=_why_empty(path))
        return open_image(path)
    except SparsightError as error:
        # The result has its path already; messages about files begin with it.
        return Captioned(path, error=error.message.removeprefix(f"{Path(path)}: "))
    except OSError as error:
        return Captioned(path, error=f"cannot be read: {error.strerror or error}")


def _why_empty(folder: str) -> str:
    try:
        os.listdir(folder)
    except OSError as error:
        return f"this folder cannot be read: {error.strerror or error}"
    return f"no photographs in this folder; looked for files ending in {', '.join(SUFFIXES)}"
