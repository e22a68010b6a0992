"""Bytes from a path, a web address or any file system that fsspec knows.

fsspec is imported when an address needs it: each worker process passes through here.
"""

import re
import time
from typing import IO, cast

from serving.remote_image import ANYWHERE, RemoteBusyError, fetch_image
from sparse_encoder.errors import SparsightError

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PAUSES_S = (0.5, 2.0)  # before the second and third try of a web address that was busy


def is_remote(name: str) -> bool:
    """Whether `name` is an address (``s3://``, ``https://``, ``memory://``) and not a path."""
    return REMOTE.match(name) is not None


def is_web(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def open_binary(name: str) -> IO[bytes]:
    """A file of a path or address, open for reading. Raises SparsightError in words."""
    try:
        if not is_remote(name):
            return open(name, "rb")
        import fsspec

        return cast(IO[bytes], fsspec.open(name, "rb").open())
    except FileNotFoundError as error:
        raise SparsightError("there is no such file") from error
    except OSError as error:
        raise SparsightError(f"cannot be read ({error.strerror or error})") from error
    except (ImportError, ValueError) as error:  # a file system whose package is not installed
        raise SparsightError(f"cannot be opened: {error}") from error


def fetch(address: str, max_bytes: int, *, pauses_s: tuple[float, ...] = PAUSES_S) -> bytes:
    """The bytes at an address, at most one more than `max_bytes`, so that too many show.

    A web address that answers that it is busy, or not at all, is tried again. Raises
    SparsightError in words.
    """
    if not is_web(address):
        with open_binary(address) as file:
            try:
                return file.read(max_bytes + 1)
            except OSError as error:
                raise SparsightError(f"cannot be read ({error.strerror or error})") from error
    for pause in (*pauses_s, None):
        try:
            return fetch_image(address, ANYWHERE, max_bytes)
        except RemoteBusyError as busy:
            if pause is None:
                tries = len(pauses_s) + 1
                raise SparsightError(f"{busy} ({tries} tries)") from busy
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")
