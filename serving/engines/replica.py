"""One vLLM server as the gateway sees it, and which of several gets a request."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

# How many more requests than the idlest a server may have open before affinity gives way: about
# what the prefix hits of one image are worth against waiting for a place in a batch.
SLACK = 4


@dataclass(eq=False)
class Replica:
    """A vLLM server. `up` and `n_open` are read and written under the pool's lock."""

    url: str  # without a slash at the end
    up: bool = False
    n_open: int = 0  # requests of this gateway
    why_down: str = "was not asked yet"
    n_checks_down: int = field(default=0)  # in a row; decides how soon the next one is


def choose(replicas: Sequence[Replica], images: str) -> Replica | None:
    """The server for a request, None where all are down.

    images: the digests of its images, "" for none. The same images go to the same server, so that
    their prefix is cached there (rendezvous hashing: one that leaves moves no other's images),
    unless that one has `SLACK` more open than the idlest.
    """
    up = [replica for replica in replicas if replica.up]
    if not up:
        return None
    idlest = min(up, key=lambda replica: replica.n_open)
    if not images:
        return idlest
    favourite = max(up, key=lambda replica: _score(replica.url, images))
    return favourite if favourite.n_open - idlest.n_open < SLACK else idlest


def _score(url: str, images: str) -> bytes:
    return hashlib.sha256(f"{url}\n{images}".encode()).digest()
