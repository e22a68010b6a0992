"""Reading a receipt's JSON piece by piece; each refusal names the key."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sparse_encoder.errors import SparsightError

T = TypeVar("T")


def json_object(
    item: object, keys: Sequence[str], at: str, *, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """A JSON object with exactly these keys."""
    if not isinstance(item, dict):
        raise wrong(at, "an object")
    for key in keys:
        if key not in item:
            raise SparsightError(f"{at} has no {key}; is it a receipt?", param=f"{at}.{key}")
    for key in item:
        if key not in keys and key not in optional:
            raise SparsightError(f"{at} has an unknown key {key!r}", param=f"{at}.{key}")
    return item


def json_items(item: object, at: str) -> list[tuple[str, object]]:
    """The entries of a JSON list, each with its place in words."""
    if not isinstance(item, list):
        raise wrong(at, "a list")
    return [(f"{at}[{i}]", entry) for i, entry in enumerate(item)]


def typed(item: object, kind: type[T], at: str) -> T:
    """`item` if it is a `kind`."""
    if kind is float and isinstance(item, int) and not isinstance(item, bool):
        item = float(item)  # JSON writers may drop the point of 1.0
    if not isinstance(item, kind) or (isinstance(item, bool) and kind is not bool):
        words = {str: "a string", int: "a whole number", float: "a number"}
        raise wrong(at, words[kind])
    return item


def wrong(at: str, expected: str) -> SparsightError:
    """The refusal of what stands at `at`."""
    return SparsightError(f"{at} is not {expected}; is it a receipt?", param=at)
