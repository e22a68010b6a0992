"""From an item to pixels or bytes. Runs in worker processes: imports neither torch nor a source."""

import hashlib
from pathlib import Path

from serving.batch.fetch import fetch, is_remote
from serving.batch.item import Item, Photo
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import ImageLimits, decode_image, open_image

LIMITS = ImageLimits()


def read_item(item: Item, keep_data: bool = False) -> Photo:
    """The photograph, or the reason why there is none; raises nothing that a bad file can cause.

    keep_data: hand on the file's bytes too.
    """
    if item.error is not None:
        return Photo(item.name, error=item.error)
    try:
        data = item.data
        if data is None and is_remote(item.name):
            data = fetch(item.name, LIMITS.max_bytes)
        elif data is None and keep_data:
            data = _local(item.name)
        if data is None:
            return Photo(item.name, open_image(item.name))
        return Photo(item.name, decode_image(data), data=data if keep_data else None)
    except SparsightError as error:
        return _failed(item, error)


def read_bytes(item: Item, keep_data: bool = True) -> Photo:
    """The same without decoding, which is done elsewhere: digest and bytes.

    keep_data: also the bytes of what lies somewhere; those that the item brought are always kept.
    """
    if item.error is not None:
        return Photo(item.name, error=item.error)
    data = item.data
    try:
        if data is None and is_remote(item.name):
            data = fetch(item.name, LIMITS.max_bytes)
        elif data is None:
            data = _local(item.name)
        if data is None:
            open_image(item.name)  # which says why
            return Photo(item.name, error="cannot be read")
    except SparsightError as error:
        return _failed(item, error)
    kept = data if keep_data or item.data is not None else None
    return Photo(item.name, data=kept, digest=hashlib.sha256(data).hexdigest())


def _failed(item: Item, error: SparsightError) -> Photo:
    # The result has its name already; messages about files begin with it.
    return Photo(item.name, error=error.message.removeprefix(f"{Path(item.name)}: "))


def _local(name: str) -> bytes | None:
    """A file's bytes; None where it cannot be read, which open_image then explains."""
    try:
        with open(name, "rb") as file:
            return file.read(LIMITS.max_bytes + 1)
    except (OSError, ValueError):
        return None
