"""A folder of parquet files, made from the journal's lines.

Part k holds the k-th thousand results, so a part can be made again at any time and comes out the
same; parts appear whole. The last one is short and is replaced as it grows.
"""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from serving.batch.answers import dense_embedding
from serving.batch.journal import Journal
from serving.batch.plan import Plan
from serving.batch.result import Result
from serving.batch.sinks.full_disk import MARK, full_disk_stops
from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import replace_file

ROWS = 1000  # a part
PART = re.compile(r"part-(\d{5,})\.parquet")


def schema(plan: Plan) -> pyarrow.Schema:
    """Columns of a plan's results; receipts and answers by a schema are JSON text."""
    text, list_of = pyarrow.string(), pyarrow.list_
    fields = [("path", text), ("sha256", text), ("duplicate_of", text)]
    if plan.is_simple:
        fields += [("caption", text), ("receipt", text)]
    elif plan.prompts:
        keys = ("prompt", "steering", "caption", "receipt")
        fields.append(("captions", list_of(pyarrow.struct([(key, text) for key in keys]))))
    if plan.tags is not None:
        keys = ("prompt", "steering", "json", "receipt")
        fields.append(("tags", list_of(pyarrow.struct([(key, text) for key in keys]))))
    code = pyarrow.struct(
        [("features", list_of(pyarrow.int32())), ("activations", list_of(pyarrow.float32()))]
    )
    if plan.codes:
        fields.append(("code", code))
    if plan.embedding == "dense":
        fields.append(("embedding", list_of(pyarrow.float32())))
    elif plan.embedding == "sparse":
        values = [("features", list_of(pyarrow.int32())), ("values", list_of(pyarrow.float32()))]
        fields.append(("embedding", pyarrow.struct(values)))
    return pyarrow.schema(fields, metadata={"sparsight": json.dumps(plan.to_json())})


class ParquetParts:
    """Holds at most one part in memory. Makes up for parts that the journal has and the folder not.

    Raises SparsightError where the folder has parts of another plan, or more than the journal.
    """

    needs_data = False

    def __init__(
        self,
        folder: Path | str,
        plan: Plan,
        journal: Journal,
        *,
        overwrite: bool = False,
        rows: int = ROWS,
    ) -> None:
        self._folder = Path(folder)
        self._plan = plan
        self._schema = schema(plan)
        self._rows = rows
        self._waiting: list[dict[str, Any]] = []
        self._n_parts = 0  # full ones
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            n_there = self._check(overwrite, journal.n_done)
        except OSError as error:
            raise SparsightError(
                f"{self._folder} cannot be used for parquet: {error.strerror or error}",
                param="parquet",
            ) from error
        for n, result in enumerate(journal.good()):
            if n // rows < n_there // rows:
                self._n_parts = n // rows + 1
            else:
                self.after(result)

    def refuses(self, name: str) -> str | None:
        return None

    def before(self, result: Result, data: bytes | None) -> str | None:
        return None

    def after(self, result: Result) -> None:
        self._waiting.append(self._row(result))
        if len(self._waiting) >= self._rows:
            self._publish()
            self._n_parts += 1
            self._waiting = []

    def close(self) -> None:
        if self._waiting:
            self._publish()

    def _publish(self) -> None:
        table = pyarrow.Table.from_pylist(self._waiting, schema=self._schema)
        path = self._folder / f"part-{self._n_parts:05d}.parquet"
        with full_disk_stops(str(path)):
            replace_file(path, lambda aside: pyarrow.parquet.write_table(table, aside), mark=MARK)

    def _row(self, result: Result) -> dict[str, Any]:
        row: dict[str, Any] = {
            **result.outputs,
            "path": _plain(result.path),
            "sha256": result.sha256,
            "duplicate_of": None if result.duplicate_of is None else _plain(result.duplicate_of),
        }
        if "receipt" in row:
            row["receipt"] = json.dumps(row["receipt"])
        for key in ("captions", "tags"):
            if key in row:
                row[key] = [_as_text(each) for each in row[key]]
        if self._plan.embedding == "dense":
            row["embedding"] = dense_embedding(row["embedding"], 0)
        return row

    def _check(self, overwrite: bool, n_done: int) -> int:
        """Rows that the folder has in a row from part 0 on."""
        parts = sorted(path for path in self._folder.iterdir() if PART.fullmatch(path.name))
        if overwrite:
            for part in parts:
                part.unlink()
            return 0
        n_there = 0
        for number, part in enumerate(parts):
            try:
                found = pyarrow.parquet.read_schema(part)
                n_rows = pyarrow.parquet.read_metadata(part).num_rows
            except pyarrow.ArrowException as error:
                raise self._foreign(f"{part.name} cannot be read ({error})") from error
            if found != self._schema or found.metadata != self._schema.metadata:
                raise self._foreign(f"{part.name} was made with another recipe")
            if part.name != f"part-{number:05d}.parquet" or n_there % self._rows:
                raise self._foreign(f"a part before {part.name} is missing or short")
            n_there += n_rows
        if n_there > n_done:
            raise self._foreign(f"it has {n_there:,} rows, --out only {n_done:,} results")
        return n_there

    def _foreign(self, why: str) -> SparsightError:
        return SparsightError(
            f"{self._folder} does not go with --out: {why}; choose another folder, or --force to "
            "start both anew",
            param="parquet",
            code="other_recipe",
        )


def _as_text(answer: dict[str, Any]) -> dict[str, Any]:
    """One answer with all that has a shape of its own as JSON text."""
    return {
        key: json.dumps(value) if key in ("receipt", "json") else value
        for key, value in answer.items()
    }


def _plain(name: str) -> str:
    """A name as UTF-8, which parquet demands: other bytes are written as ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
