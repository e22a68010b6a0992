"""Resident memory over ever more photographs, without a model."""

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from serving.batch.item import Item
from serving.batch.journal import Journal
from serving.batch.plan import Plan
from serving.batch.run import Pace, caption_all
from vlm.pipeline import Answer, Request

MIB = 2**20


class _Answers:
    """No model: an answer of the usual length at once."""

    def encode(self, images: Sequence[Any]) -> Any:
        raise AssertionError("captions alone are asked for")

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        return [Answer("a man in a red shirt is standing on a beach", "stop", 30, 12, None)] * len(
            requests
        )


class _Numbers:
    """A source of n photographs of distinct bytes."""

    def __init__(self, n: int) -> None:
        self._n = n
        out = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(out, "BMP")  # bytes after the pixels do not matter
        self._photo = out.getvalue()

    def count(self) -> int:
        return self._n

    def has_any(self) -> bool:
        return True

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        for n in range(self._n):
            if wanted(f"archive/{n:09d}.bmp"):
                yield Item(f"archive/{n:09d}.bmp", data=self._photo + n.to_bytes(8, "big"))


def memory(n_photos: int) -> Iterator[tuple[int, float]]:
    """(photographs done, resident MiB) at powers of two, up to n_photos."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan("0" * 64)
        with Journal(Path(folder) / "captions.jsonl", plan) as journal:
            pace = Pace(batch_size=8, workers=0)
            results = caption_all(
                [_Numbers(n_photos)], plan, _Answers(), journal=journal, pace=pace
            )
            for n, result in enumerate(results, 1):
                assert result.error is None, result.error
                if n >= 1000 and (n & (n - 1) == 0 or n == n_photos):
                    yield n, _resident_mib()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB
