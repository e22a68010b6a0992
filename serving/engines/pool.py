"""The vLLM servers behind one gateway: who is up, by a thread that asks each of them.

A server that does not answer its health route, or that a request could not connect to, is taken
out; it is asked again and comes back by itself. Which model it has is checked each time it comes
back: another model's answers would look right.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from serving.engines.faults import unavailable
from serving.engines.replica import Replica, choose
from sparse_encoder.errors import SparsightError

logger = logging.getLogger(__name__)

CHECK_S = 2.0  # between two health checks of a server that is up
SOONEST_S, LATEST_S = 0.25, 5.0  # of one that is down: doubled from the first to the second


class Pool:
    """Owns its thread until `close`. Safe for threads."""

    def __init__(self, urls: Sequence[str], model: str, key: str | None) -> None:
        if not urls:
            raise ValueError("a pool needs one URL or more")
        self.model = model
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.replicas = [Replica(_checked(url)) for url in urls]
        self._lock = threading.Lock()
        self._due = {replica.url: 0.0 for replica in self.replicas}
        self._closing = threading.Event()
        # trust_env would send what is on loopback through a proxy of the machine's.
        self._http = httpx.Client(headers=self.headers, timeout=5.0, trust_env=False)
        self._thread = threading.Thread(target=self._watch, name="vllm-health", daemon=True)

    def start(self) -> None:
        """Begins to ask; the first answers may take a moment."""
        self._thread.start()

    @property
    def any_up(self) -> bool:
        return any(replica.up for replica in self.replicas)

    @contextmanager
    def lent(self, images: str, tried: set[str]) -> Iterator[Replica]:
        """A server to send one request to; not one of `tried`. Raises EngineUnavailableError."""
        with self._lock:
            replica = choose([r for r in self.replicas if r.url not in tried], images)
            if replica is None:
                raise unavailable()
            replica.n_open += 1
        try:
            yield replica
        finally:
            with self._lock:
                replica.n_open -= 1

    def take_out(self, replica: Replica, why: str) -> None:
        """No request goes there until it answers its health route again."""
        with self._lock:
            if replica.up:
                logger.warning("vLLM at %s is out: %s", replica.url, why)
            replica.up, replica.why_down, replica.n_checks_down = False, why, 0
            self._due[replica.url] = time.monotonic() + SOONEST_S

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._http.close()

    def why_down(self) -> str:
        """One line for people: what is wrong with each server that is not up."""
        down = [f"{r.url} {r.why_down}" for r in self.replicas if not r.up]
        return "; ".join(down)

    def check_all(self) -> None:
        """Asks every server whose turn it is."""
        for replica in self.replicas:
            if time.monotonic() >= self._due[replica.url]:
                self._check(replica)

    # From here on: the watching thread (or, in check_all, its caller).

    def _watch(self) -> None:
        while not self._closing.is_set():
            self.check_all()
            wait = min(self._due.values()) - time.monotonic()
            self._closing.wait(min(max(wait, 0.05), CHECK_S))

    def _check(self, replica: Replica) -> None:
        why = self._fault(replica)
        with self._lock:
            if why is None:
                if not replica.up:
                    logger.info("vLLM at %s is up", replica.url)
                replica.up, replica.why_down, replica.n_checks_down = True, "", 0
                self._due[replica.url] = time.monotonic() + CHECK_S
                return
            if replica.up:
                logger.warning("vLLM at %s is out: %s", replica.url, why)
            replica.up, replica.why_down = False, why
            wait = min(LATEST_S, SOONEST_S * 2 ** min(replica.n_checks_down, 10))
            replica.n_checks_down += 1
            self._due[replica.url] = time.monotonic() + wait

    def _fault(self, replica: Replica) -> str | None:
        """What keeps a server from being used; None where nothing does."""
        try:
            health = self._http.get(f"{replica.url}/health")
            if health.status_code != 200:
                return f"answers its health route with {health.status_code}"
            if replica.up:
                return None
            listed = self._http.get(f"{replica.url}/v1/models")
            if listed.status_code in (401, 403):
                return "refuses our API key; set SPARSIGHT_VLLM_KEY to the one it was started with"
            names = [str(card["id"]) for card in listed.json()["data"]]
        except httpx.HTTPError as error:
            return f"cannot be reached ({type(error).__name__})"
        except (ValueError, KeyError, TypeError):
            return "does not list its models as vLLM does"
        if self.model not in names:
            return (
                f"serves {', '.join(names)[:200]}, expected {self.model}; start it by the command "
                "that `sparsight export` prints"
            )
        return None


def _checked(url: str) -> str:
    """The URL without a slash or ``/v1`` at its end. Raises SparsightError for what is none."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query:
        raise SparsightError(
            f"{url!r} is no address of a vLLM server; expected one such as http://127.0.0.1:8101",
            param="vllm_url",
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
