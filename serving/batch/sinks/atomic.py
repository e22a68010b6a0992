"""A file that is there whole or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.batch.journal import FULL
from sparse_encoder.errors import SparsightError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside `path` and renames. Raises OSError; nothing is left beside it then."""
    # Always the same name, so that what a killed run left is written over by the next.
    aside = path.with_name(f".{path.name}.sparsight-part")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def full_disk_stops(what: str) -> Iterator[None]:
    """Turns a full disk into words; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise SparsightError(
            f"{what} cannot be written ({error.strerror}); what stands in --out is safe: make room "
            "and run the same command again",
            param="out",
            code="disk_full",
        ) from error
