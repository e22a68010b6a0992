"""A request's body: bytes up to a limit, then one JSON object, read strictly.

JSON allows a key twice and Python's reader keeps the last one in silence: of two ``steering``
objects one would be lost. Such bodies are refused, and so are NaN and text that is no Unicode.
"""

import json
import re
from typing import Any, NoReturn

from starlette.requests import Request

from serving.errors import BodyTooLargeError, MediaTypeError
from sparse_encoder.errors import SparsightError

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body of a JSON request. Raises MediaTypeError, or BodyTooLargeError above the limit."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Any web page may post a form to a server on this machine, but not this type.
        raise MediaTypeError(
            f"content-type is {kind or 'missing'!r}, expected 'application/json'; "
            "with curl: -H 'content-type: application/json'"
        )
    return await read_limited(
        request,
        max_bytes,
        f"the body is larger than {max_bytes:,} bytes; send fewer or smaller photographs",
    )


async def read_limited(request: Request, max_bytes: int, refusal: str) -> bytes:
    """A body of any kind. Raises BodyTooLargeError, with `refusal`, as soon as it is over the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLargeError(refusal)
    return bytes(body)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises SparsightError (code ``invalid_json``) for anything else."""
    try:
        text = body.decode("utf-8-sig")
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise _invalid("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _invalid(f"{error.msg} at {place}") from None
    except RecursionError:
        raise _invalid("it is nested too deeply") from None
    except SparsightError:
        raise
    except ValueError:  # Python's own limit of 4,300 digits
        raise _invalid("a number in it has too many digits") from None
    if not isinstance(data, dict):
        raise _invalid("it is no object {...}")
    if SURROGATE.search(text):
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _invalid("a text in it holds half of a surrogate pair") from None
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SparsightError(
            f"the key {twice[:80]!r} comes twice in one object; keep one of them",
            param=twice[:80],
            code="duplicate_key",
        )
    return out


def _no_constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is no JSON number")


def _invalid(why: str) -> SparsightError:
    return SparsightError(f"the body is no valid JSON: {why}", code="invalid_json")
