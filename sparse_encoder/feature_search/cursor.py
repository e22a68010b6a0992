"""Where a search's next page begins, as a word that clients hand back and do not read.

It is bound to the search: a cursor of other words or of another model would skip results in
silence, and is refused instead.
"""

import base64
import binascii
import hashlib
from typing import NoReturn

from sparse_encoder.errors import SparsightError

_DIGEST_BYTES = 6  # enough to tell searches apart; nothing is kept secret
_MAX_CHARACTERS = 64


def write_cursor(start: int, search: str) -> str:
    """The cursor of the page from result `start`; search: all that decides on the results."""
    return base64.urlsafe_b64encode(_digest(search) + str(start).encode()).decode().rstrip("=")


def read_cursor(cursor: str, search: str) -> int:
    """The first result of the page. Raises SparsightError for a cursor that is not this search's."""
    if len(cursor) > _MAX_CHARACTERS or not cursor.isascii():
        _refuse(cursor, "is none")
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        _refuse(cursor, "is none")
    digest, start = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if not start.isdigit() or str(int(start)).encode() != start:
        _refuse(cursor, "is none")
    if digest != _digest(search):
        _refuse(cursor, "belongs to another search")
    return int(start)


def _digest(search: str) -> bytes:
    return hashlib.sha256(search.encode("utf-8", "replace")).digest()[:_DIGEST_BYTES]


def _refuse(cursor: str, why: str) -> NoReturn:
    raise SparsightError(
        f"cursor {cursor[:40]!r} {why}; take next_cursor of the page before, with the same query, "
        f"or leave it out to begin anew",
        param="cursor",
        code="bad_cursor",
    )
