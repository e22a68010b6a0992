"""API keys: several, each with a name, in one file that holds only their hashes.

A key is 256 random bits, so one SHA-256 is enough: there is no short password behind it that a
fast hash would let somebody guess. The file is read again when it changes, so that a key that was
removed is refused from the next request on.
"""

import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import replace_file

PREFIX = "sk-sparsight-"  # by which scanners of public code find keys that leaked
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """What the file holds of a key. The name is in logs; the key itself is nowhere."""

    name: str
    sha256: str  # of the whole key
    created: str  # date and time, UTC
    per_minute: int | None = None  # requests; None: the server's limit
    open: int | None = None  # requests at once; None: the server's limit

    def __post_init__(self) -> None:
        check_name(self.name)
        if not HASH.fullmatch(self.sha256):
            raise SparsightError(f"key {self.name}: sha256 is no hash of 64 hexadecimal digits")
        for what in ("per_minute", "open"):
            value = getattr(self, what)
            if value is not None and not (type(value) is int and value >= 1):
                raise SparsightError(f"key {self.name}: {what} is {value!r}, expected 1 or more")


def check_name(name: object) -> None:
    """Raises SparsightError for a name that could not stand in a log line."""
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise SparsightError(
            f"{str(name)[:80]!r} is no name of a key: expected 1 to 64 letters, digits, '.', '_' "
            "or '-', a letter or digit first",
            param="name",
        )


def hash_key(key: str) -> str:
    """What the file keeps of a key."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys in a file. Raises SparsightError where it is none, or holds a name twice."""
    try:
        data = json.loads(path.read_bytes())
        keys = tuple(Key(**entry) for entry in data["keys"])
    except FileNotFoundError:
        raise SparsightError(
            f"{path}: there is no such file; `sparsight keys add NAME --file {path}` makes it",
            param="keys",
        ) from None
    except OSError as error:
        raise SparsightError(
            f"{path}: cannot be read ({error.strerror or error})", param="keys"
        ) from None
    except SparsightError as error:
        raise SparsightError(f"{path}: {error.message}", param="keys") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SparsightError(
            f"{path}: this is no file of keys; `sparsight keys add` writes one", param="keys"
        ) from None
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise SparsightError(f"{path}: two keys have the same name", param="keys")
    return keys


def add_key(
    path: Path, name: str, *, per_minute: int | None = None, open: int | None = None
) -> str:
    """A fresh key, whose hash is in the file from here on. It can never be read again."""
    check_name(name)
    secret = PREFIX + secrets.token_urlsafe(32)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with _locked(path):
        keys = read_keys(path) if path.exists() else ()
        if any(key.name == name for key in keys):
            raise SparsightError(
                f"{path} has a key named {name!r}; choose another name, or remove it first",
                param="name",
            )
        _write(path, [*keys, Key(name, hash_key(secret), created, per_minute, open)])
    return secret


def remove_key(path: Path, name: str) -> None:
    """Takes a key away. Raises SparsightError where there is none of this name."""
    with _locked(path):
        keys = read_keys(path)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            known = ", ".join(key.name for key in keys) or "none"
            raise SparsightError(
                f"{path} has no key named {name[:80]!r}; it has {known}", param="name"
            )
        _write(path, left)


def _locked(path: Path) -> FileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path.with_name(f".{path.name}.lock"))
    except OSError as error:
        raise SparsightError(f"{path}: cannot be written ({error.strerror or error})") from None


def _write(path: Path, keys: Sequence[Key]) -> None:
    content = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1) + "\n"

    def write(aside: Path) -> None:
        # For the owner alone from its first byte on.
        with os.fdopen(os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)

    try:
        replace_file(path, write)
    except OSError as error:
        raise SparsightError(f"{path}: cannot be written ({error.strerror or error})") from None


class KeyRing:
    """The keys of a file as they are now. For one event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: Any = None
        self._keys: tuple[Key, ...] = ()
        self._refresh()

    def find(self, secret: str) -> Key | None:
        """The key behind what a client sent; None for any other.

        Raises SparsightError where the file cannot be read any more. How long it takes does not
        depend on how much of a key was right: hashes are compared, in constant time, all of them.
        """
        self._refresh()
        digest, found = hash_key(secret), None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def _refresh(self) -> None:
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            stamp = None
        if stamp is None or stamp != self._stamp:
            self._keys = read_keys(self.path)
            self._stamp = stamp
