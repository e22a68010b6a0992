"""What was made lately and may be asked for again: the least recently used goes first.

A key says everything that its value depends on, the model's fingerprint included. What depends on
edits is kept by the digest of the edited codes, which follows from photographs, edits and model: a
value made without an edit cannot come back for a request with one.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """At most `most` values. One thread at a time; the counts may be read from any."""

    def __init__(self, most: int) -> None:
        self.most = most  # more for who asks much about many
        self._values: OrderedDict[K, V] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`, made where it is not there."""
        if key in self._values:
            self.hits += 1
        else:
            self.misses += 1
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self.most:
            self._values.popitem(last=False)
        return self._values[key]

    def clear(self) -> None:
        """Forgets all values; the counts stay."""
        self._values.clear()
