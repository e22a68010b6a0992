"""A text file with one path or address a line."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from serving.batch.fetch import is_remote, open_binary
from serving.batch.item import Item
from serving.photo_files import STDIN
from sparse_encoder.errors import SparsightError


def under(root: str, path: str) -> str:
    """The name of a photograph that a list or table calls `path`."""
    return path if is_remote(path) else os.path.join(root, path)


@dataclass(frozen=True)
class PathList:
    """``-`` is standard input. Empty lines are passed over; other bytes than UTF-8 are kept."""

    path: str
    root: str = ""

    def count(self) -> int | None:
        if self.path == STDIN:
            return None
        with self._lines() as lines:
            return sum(1 for line in lines if line.strip("\r\n"))

    def has_any(self) -> bool:
        return True

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        with self._lines() as lines:
            for line in lines:
                name = under(self.root, line.strip("\r\n"))
                if line.strip("\r\n") and wanted(name):
                    yield Item(name)

    @contextmanager
    def _lines(self) -> Iterator[TextIO]:
        if self.path == STDIN:
            sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
            yield sys.stdin
            return
        try:
            file = open_binary(self.path)
        except SparsightError as error:
            raise SparsightError(f"the list {self.path}: {error.message}", param="list") from error
        # As Python names files: bytes that are no UTF-8 come back whole when it is opened.
        with io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape") as text:
            yield text
