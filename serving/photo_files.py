"""Photographs that are files: named, or in folders, which are searched in order of name."""

import os
from collections.abc import Iterable, Iterator

# Of the files in a folder; a file that is named itself is read whatever its name ends in.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
STDIN = "-"


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


def why_no_photos(folder: str) -> str:
    """What is wrong with a folder that `find_photos` passed on as it is."""
    try:
        os.listdir(folder)
    except OSError as error:
        return f"this folder cannot be read: {error.strerror or error}"
    return f"no photographs in this folder; looked for files ending in {', '.join(SUFFIXES)}"
