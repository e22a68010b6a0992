"""Where photographs come from. A source names them in a fixed order and holds a few at a time."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import fsspec
from braceexpand import braceexpand

from serving.batch.fetch import is_remote, is_web
from serving.batch.item import Item
from serving.batch.sources.archives import TAR_SUFFIXES, TarArchive, ZipArchive
from serving.batch.sources.files import Files, RemoteFiles
from serving.batch.sources.lists import PathList
from serving.batch.sources.tables import CSV_SUFFIXES, CsvTable, ParquetTable

OF_MANY = (".zip", *TAR_SUFFIXES, *CSV_SUFFIXES, ".parquet")  # files of many photographs
Wanted = Callable[[str], bool]  # asked once a name, before its bytes are read


class Source(Protocol):
    """Some photographs. Raises SparsightError where the source as a whole makes no sense."""

    def count(self) -> int | None:
        """How many there are; None where only reading all of it would tell."""

    def has_any(self) -> bool:
        """False where it is plain without reading that nothing can be captioned."""

    def items(self, wanted: Wanted) -> Iterator[Item]:
        """The wanted ones in order. What cannot be read is an item with an error."""


def open_sources(
    arguments: Sequence[str],
    *,
    lists: Sequence[str] = (),
    column: str | None = None,
    root: str = "",
) -> list[Source]:
    """One or more sources an argument, then one a list; see docs/how-to/caption-a-folder.md.

    column: of tables, the one with paths, addresses or bytes. root: folder that relative paths in
    lists and tables start from.
    """
    sources: list[Source] = []
    for argument in arguments:
        sources += [_one(path, column, root) for path in _expanded(argument)]
    return sources + [PathList(path, root) for path in lists]


def _expanded(argument: str) -> list[str]:
    """A glob's files in order of name, a shard pattern's in order; else the argument itself."""
    if os.path.exists(argument) or is_web(argument):
        return [argument]
    patterns = list(braceexpand(argument)) if "{" in argument else [argument]
    found: list[str] = []
    for pattern in patterns:
        # Without a match the pattern stays, so that reading it says that nothing is there.
        found += sorted(_matches(pattern)) or [pattern]
    return found


def _matches(pattern: str) -> list[str]:
    """Files by a glob; none for a remote one of photographs, which are listed while they are read."""
    if not glob.has_magic(pattern):
        return []
    if not is_remote(pattern):
        return glob.glob(pattern, recursive=True)
    if not pattern.lower().endswith(OF_MANY):
        return []
    try:
        system, path = fsspec.url_to_fs(pattern)
        return [system.unstrip_protocol(each) for each in system.glob(path)]
    except (ImportError, ValueError, OSError):  # told in words where the pattern is opened
        return []


def _one(path: str, column: str | None, root: str) -> Source:
    low = path.lower()
    if os.path.isdir(path):
        return Files(path)
    if low.endswith(".zip"):
        return ZipArchive(path)
    if low.endswith(TAR_SUFFIXES):
        return TarArchive(path)
    if low.endswith(CSV_SUFFIXES):
        return CsvTable(path, column, root)
    if low.endswith(".parquet"):
        return ParquetTable(path, column, root)
    if is_remote(path) and not is_web(path):
        return RemoteFiles(path)
    return Files(path)
