"""``metrics.jsonl`` of a run: what the tracker gets too, one line an entry, each step's once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import write_whole

FILE = "metrics.jsonl"


class MetricsFile:
    """Lines ``{"step": 20, "kind": "train" or "val", ...}`` in the order they were measured.

    A run that goes on after step S measures again what came after it, so `go_on` takes those lines
    away first. Only the main process has one.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / FILE

    def add(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Raises SparsightError where the line cannot be written."""
        line = json.dumps({"step": step, "kind": kind, **values})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise SparsightError(
                f"cannot write {self.path} ({error}); free some space, and run the same command "
                "again: it goes on from the last checkpoint"
            ) from error

    def go_on(self, step: int) -> None:
        """Leaves the lines of the steps up to `step`, and of them those that are whole.

        Of 0, a run that begins, none.
        """
        if not self.path.exists():
            return
        kept = [line for line in _lines(self.path) if step and line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(self.path, text.encode())


def read_metrics(out: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind, in order. Raises SparsightError where there is no file."""
    path = out / FILE
    if not path.is_file():
        raise SparsightError(f"there is no {path}; expected the --out of a pretraining run")
    return [line for line in _lines(path) if line["kind"] == kind]


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:  # cut off when the process was killed
            continue
    return lines
