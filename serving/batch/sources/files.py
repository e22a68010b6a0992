"""Photographs that are files of their own: named, in folders, on standard input, or remote."""

import glob
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import fsspec

from serving.batch.fetch import is_web
from serving.batch.item import Item
from serving.photo_files import STDIN, SUFFIXES, find_photos, why_no_photos
from sparse_encoder.errors import SparsightError


@dataclass(frozen=True)
class Files:
    """A photograph, a web address, ``-``, or a folder searched to the bottom in order of name."""

    path: str

    def count(self) -> int:
        return 1 if is_web(self.path) else sum(1 for _ in find_photos([self.path]))

    def has_any(self) -> bool:
        found = find_photos([self.path])
        return is_web(self.path) or any(path == STDIN or os.path.isfile(path) for path in found)

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        for path in find_photos([self.path]):
            if not wanted(path):
                continue
            if path == STDIN:
                yield Item(path, data=sys.stdin.buffer.read())
            elif os.path.isdir(path):
                yield Item(path, error=why_no_photos(path))
            else:
                yield Item(path)


@dataclass(frozen=True)
class RemoteFiles:
    """A file, a folder or a glob on a file system that fsspec knows."""

    address: str

    def count(self) -> int | None:
        self._system()  # refuses an unknown file system before a model is loaded
        return None  # listing a bucket twice may take longer than it tells

    def has_any(self) -> bool:
        return True

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        system, path = self._system()
        try:
            found = self._found(system, path)
        except OSError as error:
            if wanted(self.address):
                yield Item(self.address, error=f"cannot be read: {error.strerror or error}")
            return
        if not found and wanted(self.address):
            yield Item(self.address, error="no photographs there")
        for each in found:
            name = system.unstrip_protocol(each)
            if wanted(name):
                yield Item(name)

    def _system(self) -> "tuple[fsspec.AbstractFileSystem, str]":
        """The file system, and the address within it."""
        try:
            found: tuple[fsspec.AbstractFileSystem, str] = fsspec.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise SparsightError(
                f"{self.address} cannot be opened: {error}", param="photos"
            ) from error
        return found

    def _found(self, system: "fsspec.AbstractFileSystem", path: str) -> list[str]:
        if glob.has_magic(path):
            return [each for each in sorted(system.glob(path)) if _is_photo(each)]
        if system.isdir(path):
            return [each for each in sorted(system.find(path)) if _is_photo(each)]
        return [path]


def _is_photo(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)
