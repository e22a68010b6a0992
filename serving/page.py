"""One page of a list, as OpenAI's ``limit`` and ``after`` ask for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from serving.errors import NotFoundError
from sparse_encoder.errors import SparsightError

MOST = 100


class HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


@dataclass(frozen=True)
class Page:
    limit: int
    after: str | None

    def of(self, items: Sequence[T]) -> tuple[list[T], bool]:
        """The page, and whether more follows. Raises NotFoundError for an unknown `after`."""
        start = 0
        if self.after is not None:
            ids = [item.id for item in items]
            if self.after not in ids:
                raise NotFoundError(f"no {self.after[:80]!r} in this list", param="after")
            start = ids.index(self.after) + 1
        return list(items[start : start + self.limit]), start + self.limit < len(items)


def read_page(query: Mapping[str, str], *, also: Sequence[str] = ()) -> Page:
    """Raises SparsightError for a parameter that is none, or out of range."""
    for key in query:
        if key not in ("limit", "after", *also):
            raise SparsightError(f"unknown parameter {key[:80]!r}", param=key[:80])
    text = query.get("limit", "20")
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    if not limit:
        raise SparsightError(
            f"limit is {text[:40]!r}, expected a number of 1 to {MOST}", param="limit"
        )
    return Page(min(limit, MOST), query.get("after"))
