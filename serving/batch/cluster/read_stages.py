"""What a cluster's machines do first: find photographs, and decode them.

A block is an Arrow table with a row a photograph; `i` is its place in the run's window. A photograph
that fails keeps its row, with `error`. Imports no torch, so that a reader is there at once.
"""

from typing import Any

import pyarrow

from serving.batch.item import Item
from serving.batch.reading import read_bytes, read_item

Block = Any  # a pyarrow.Table, which has no annotations
Row = dict[str, Any]

# Names as bytes, for they may be no UTF-8.
NAMED = pyarrow.schema([("i", pyarrow.int64()), ("name", pyarrow.binary())])
FOUND = pyarrow.schema(
    [
        ("i", pyarrow.int64()),
        ("sha256", pyarrow.string()),
        ("data", pyarrow.large_binary()),
        ("error", pyarrow.string()),
    ]
)
TAKEN = pyarrow.schema([*NAMED, ("sha256", pyarrow.string()), ("data", pyarrow.large_binary())])
DECODED = pyarrow.schema(
    [
        ("i", pyarrow.int64()),
        ("sha256", pyarrow.string()),
        ("pixels", pyarrow.large_binary()),
        ("shape", pyarrow.list_(pyarrow.int32())),  # width, height; the same before reduction
        ("error", pyarrow.string()),
    ]
)


def find(block: Block, keep_data: bool) -> Block:
    """NAMED to FOUND: digests, and the bytes where they are wanted."""
    rows = []
    for row in block.to_pylist():
        photo = read_bytes(Item(_name(row)), keep_data)
        found = {"sha256": photo.sha256, "data": photo.data, "error": photo.error}
        rows.append({"i": row["i"], **found})
    return pyarrow.Table.from_pylist(rows, schema=FOUND)


def decode(block: Block) -> Block:
    """TAKEN to DECODED."""
    return pyarrow.Table.from_pylist([_decoded(row) for row in block.to_pylist()], schema=DECODED)


def _decoded(row: Row) -> Row:
    photo = read_item(Item(_name(row), data=row["data"]))
    if photo.image is None:
        return {"i": row["i"], "error": photo.error}
    if photo.sha256 != row["sha256"]:
        return {"i": row["i"], "error": "the file changed while the run went on; run it again"}
    pixels = photo.image.pixels
    return {
        "i": row["i"],
        "sha256": photo.sha256,
        "pixels": pixels.tobytes(),
        "shape": [*pixels.size, *photo.image.size],
    }


def _name(row: Row) -> str:
    name: str = row["name"].decode("utf-8", "surrogateescape")
    return name
