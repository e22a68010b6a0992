"""Which photographs have a result, kept on disk: memory does not grow with their number.

A private SQLite database that the system deletes with the process. It is rebuilt from the journal
at every start, so it can never disagree with it.
"""

import hashlib
import sqlite3


def _key(text: str) -> bytes:
    # Names may hold bytes that are no UTF-8 (surrogates); 16 bytes: one clash in 10^26 pairs.
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


class Seen:
    """One process, one thread."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -4096"):
            self._base.execute(f"PRAGMA {pragma}")
        self._base.execute("CREATE TABLE name (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.execute(
            "CREATE TABLE failure (key BLOB PRIMARY KEY, error BLOB NOT NULL) WITHOUT ROWID"
        )
        self._base.execute(
            "CREATE TABLE content (key BLOB PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID"
        )

    def add(self, name: str) -> bool:
        """Notes the name; False where it was noted before."""
        done = self._base.execute("INSERT OR IGNORE INTO name VALUES (?)", (_key(name),))
        return done.rowcount == 1

    def forget(self, name: str) -> None:
        """As if the name had never been added."""
        self._base.execute("DELETE FROM name WHERE key = ?", (_key(name),))

    def fail(self, name: str, error: str) -> None:
        """Notes the latest error of a name."""
        row = (_key(name), _key(error))
        self._base.execute("INSERT OR REPLACE INTO failure VALUES (?, ?)", row)

    def succeed(self, name: str) -> bool:
        """Drops the name's error; False where it had none."""
        done = self._base.execute("DELETE FROM failure WHERE key = ?", (_key(name),))
        return done.rowcount == 1

    def has_failed(self, name: str, error: str | None = None) -> bool:
        """Whether the name's latest result is an error, or this very error."""
        found = self._base.execute("SELECT error FROM failure WHERE key = ?", (_key(name),))
        row = found.fetchone()
        return row is not None and (error is None or row[0] == _key(error))

    def put_content(self, sha256: str, offset: int) -> None:
        """Notes where the journal has the result of these bytes; the first one stays."""
        row = (_key(sha256), offset)
        self._base.execute("INSERT OR IGNORE INTO content VALUES (?, ?)", row)

    def find_content(self, sha256: str) -> int | None:
        """Where the journal has the result of these bytes."""
        key = (_key(sha256),)
        row = self._base.execute("SELECT offset FROM content WHERE key = ?", key).fetchone()
        return None if row is None else int(row[0])

    def close(self) -> None:
        self._base.close()
