"""CSV and parquet tables: one column holds paths, web addresses or the bytes of photographs."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow
import pyarrow.parquet

from serving.batch.fetch import open_binary
from serving.batch.item import Item
from serving.batch.sources.lists import under
from sparse_encoder.errors import SparsightError

CSV_SUFFIXES = (".csv", ".tsv")
KNOWN = (
    "path",
    "file",
    "filename",
    "file_name",
    "image",
    "image_path",
    "url",
    "image_url",
    "bytes",
)
ROWS_AT_ONCE = 32  # of parquet; rows may hold whole photographs


def choose_column(columns: Sequence[str], asked: str | None, path: str) -> str:
    """The column to read: the one asked for, or the only one with a usual name."""
    known = [name for name in columns if name.lower() in KNOWN]
    if asked is not None and asked in columns:
        return asked
    if asked is None and len(known) == 1:
        return known[0]
    has = f"it has {', '.join(columns) or 'no columns'}"
    if asked is not None:
        message = f"{path} has no column {asked!r}; {has}"
    else:
        message = f"{path}: name the column with paths, addresses or bytes with --column; {has}"
    raise SparsightError(message, param="column")


@dataclass(frozen=True)
class CsvTable:
    """With a header line; tabs part the fields of ``.tsv``."""

    path: str
    column: str | None = None
    root: str = ""

    def count(self) -> int | None:
        """Raises SparsightError where the column is not there, before a model is loaded."""
        with self._rows() as rows:
            choose_column(rows.fieldnames or [], self.column, self.path)
            try:
                return sum(1 for _ in rows)
            except csv.Error:
                return None

    def has_any(self) -> bool:
        return True

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        with self._rows() as rows:
            column = choose_column(rows.fieldnames or [], self.column, self.path)
            try:
                for row in rows:
                    cell = row.get(column) or ""
                    name = under(self.root, cell) if cell else f"{self.path}#{rows.line_num}"
                    if wanted(name):
                        yield Item(name, error=None if cell else f"nothing in column {column!r}")
            except csv.Error as error:
                if wanted(self.path):
                    yield Item(self.path, error=f"line {rows.line_num} is no CSV ({error})")

    @contextmanager
    def _rows(self) -> Iterator["csv.DictReader[str]"]:
        import io

        try:
            file = open_binary(self.path)
        except SparsightError as error:
            raise SparsightError(f"{self.path}: {error.message}", param="photos") from error
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        with text:
            tabs = self.path.lower().endswith(".tsv")
            yield csv.DictReader(text, delimiter="\t" if tabs else ",")


@dataclass(frozen=True)
class ParquetTable:
    """Cells are strings (paths, addresses), bytes, or Hugging Face's {bytes, path}."""

    path: str
    column: str | None = None
    root: str = ""

    def count(self) -> int | None:
        """Raises SparsightError where the column is not there, before a model is loaded."""
        try:
            with self._file() as table:
                choose_column(table.schema_arrow.names, self.column, self.path)
                return int(table.metadata.num_rows)
        except (pyarrow.ArrowException, OSError):
            return 1

    def has_any(self) -> bool:
        return True

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        row = 0
        try:
            with self._file() as table:
                column = choose_column(table.schema_arrow.names, self.column, self.path)
                for batch in table.iter_batches(ROWS_AT_ONCE, columns=[column]):
                    for cell in batch.column(0):
                        item = self._item(cell.as_py(), row, column)
                        row += 1
                        if wanted(item.name):
                            yield item
        except (pyarrow.ArrowException, OSError) as error:
            if wanted(self.path):
                why = str(error).splitlines()[0]
                yield Item(self.path, error=f"no readable parquet after {row:,} rows ({why})")

    def _item(self, cell: Any, row: int, column: str) -> Item:
        name = f"{self.path}#{row}"
        if isinstance(cell, dict):
            path = cell.get("path")
            cell = cell.get("bytes") or path
        if isinstance(cell, bytes):
            return Item(name, data=cell)
        if isinstance(cell, str) and cell:
            return Item(under(self.root, cell))
        kind = "nothing" if not cell else f"a {type(cell).__name__}, not a path or bytes,"
        return Item(name, error=f"{kind} in column {column!r}")

    @contextmanager
    def _file(self) -> Iterator[Any]:
        try:
            file = open_binary(self.path)
        except SparsightError as error:
            raise SparsightError(f"{self.path}: {error.message}", param="photos") from error
        with file, pyarrow.parquet.ParquetFile(file) as table:
            yield table
