"""A file that is there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object], *, mark: str | None = None) -> None:
    """Writes beside `path`, then renames. Raises OSError; nothing is left beside it then.

    mark: end of the name beside it. By default the process's number, so that two that write the
    same file at once do not write into one; a run that is alone gives a fixed one, and so writes
    over what it left when it was killed.
    """
    aside = path.with_name(f".{path.name}.{mark or os.getpid()}")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | memoryview, *, mark: str | None = None) -> None:
    """`replace_file` of bytes that are at hand."""
    replace_file(path, lambda aside: aside.write_bytes(content), mark=mark)
