"""A file of captions, one JSON object a line, that a stopped run continues.

Each line carries its recipe, so that a file never mixes captions made in two ways. Only a run that
was killed leaves half a line; it is cut off before the next is written.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sparse_encoder.errors import SparsightError
from vlm.captioning import Captioned, Recipe

START = b'{"path": '  # of every line that we write


class CaptionLog:
    """Appends to one file; one process at a time.

    `done` holds the paths that have a caption already. Raises SparsightError where the file holds
    captions of another recipe or something else altogether; it is then left as it was.
    """

    def __init__(self, path: Path | str, recipe: Recipe, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.done: set[str] = set()
        self._recipe = recipe.to_json()
        self._failed: dict[str, str] = {}
        try:
            if overwrite:
                self.path.write_bytes(b"")
            elif self.path.exists():
                self._read()
            else:
                self.path.touch()
        except OSError as error:
            raise SparsightError(
                f"{self.path} cannot be used for captions: {error.strerror or error}", param="out"
            ) from error

    def record(self, results: Iterable[Captioned]) -> Iterator[Captioned]:
        """Passes the results on, each written before the next is asked for.

        An error that the file has already for the same path is not repeated.
        """
        with self.path.open("a", encoding="ascii", newline="\n") as file:
            for result in results:
                if result.error is None or self._failed.get(result.path) != result.error:
                    file.write(json.dumps({**result.to_json(), "recipe": self._recipe}) + "\n")
                    file.flush()
                yield result

    def _read(self) -> None:
        """Checks every line, then cuts off or ends the last one."""
        whole = 0  # bytes of complete lines
        tail = b""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    self._take(line, number)
                    whole += len(line)
                else:
                    tail = line
        if not tail:
            return
        if not (tail.startswith(START) or START.startswith(tail)):
            raise self._foreign(f"its last line does not start with {START.decode()!r}")
        # Even if it reads as JSON, a line without its end may have lost digits: caption again.
        os.truncate(self.path, whole)

    def _take(self, line: bytes, number: int) -> None:
        try:
            entry = json.loads(line)
            path, recipe = entry["path"], entry["recipe"]
            error = entry["error"] if "caption" not in entry else None
        except (ValueError, KeyError, TypeError):
            raise self._foreign(f"line {number} is no caption") from None
        if recipe != self._recipe:
            raise SparsightError(
                f"{self.path}, line {number}, was made with another {self._difference(recipe)}; "
                "choose another file, or --force to start this one anew",
                param="out",
                code="other_recipe",
            )
        if error is None:
            self.done.add(path)
        else:
            self._failed[path] = error

    def _difference(self, recipe: Any) -> str:
        if not isinstance(recipe, dict):
            return "recipe"
        for key, now in self._recipe.items():
            if recipe.get(key) != now:
                return f"{key} ({json.dumps(recipe.get(key))}, now {json.dumps(now)})"
        return "recipe"

    def _foreign(self, why: str) -> SparsightError:
        return SparsightError(
            f"{self.path} is no file of captions: {why}; choose another, or --force to overwrite it",
            param="out",
            code="not_a_caption_log",
        )
