"""A receipt in a file: alone, in a server's answer, or in a line of ``sparsight caption --json``."""

import json
from typing import Any

from sparse_encoder.errors import SparsightError


def read_receipt(text: str) -> dict[str, Any]:
    """The one receipt in `text`. Raises SparsightError where there is none, or more than one."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise _no_receipt("is nested too deeply") from None
    except ValueError as error:
        if text.count("\n") > 1 and text.lstrip().startswith("{"):
            raise _no_receipt("holds more than one JSON object; put one line in a file") from None
        raise _no_receipt(f"is no JSON: {error}") from None
    for keys in ((), ("receipt",), ("steering", "receipt")):
        found = data
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict) and "codes_sha256" in found:
            return found
    raise _no_receipt("holds no receipt: expected one, or an answer with one inside")


def _no_receipt(why: str) -> SparsightError:
    return SparsightError(f"the file {why}", param="receipt", code="no_receipt")
