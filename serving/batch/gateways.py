"""Several gateways that answer the same requests: which to ask, and when to ask one again.

A gateway that is gone, busy or broken is left alone for a while that doubles each time, up to half a
minute; its requests go to the others. One that comes back is asked for its model first, so that a
run never mixes answers of two models.
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from sparse_encoder.errors import SparsightError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
PATIENCE_S = 600.0  # without an answer from any gateway
TIMEOUT_S = 330.0  # a gateway gives up after 300
MAX_TRIES = 5  # of one request that its gateway did not survive, or called a fault of its own
BUSY = (429, 502, 503, 504)
CLOSED = (401, 403, 404, 405)  # no other request would fare better


@dataclass(frozen=True)
class Served:
    """What the gateways serve."""

    name: str
    fingerprint: str
    n_features: int


class GatewayError(SparsightError):
    """No request can be answered any more; the run has to stop."""

    code = "gateway_failed"


@dataclass
class _Gateway:
    url: str
    n_open: int = 0
    pause_s: float = 0.0  # the last one
    not_before: float = 0.0  # seconds, of the monotonic clock
    is_checked: bool = False  # its model is the run's
    why_down: str = ""


class Gateways:
    """Safe to share between threads. `served` is known once `check` has found one that is up."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        api_key: str | None = None,
        patience_s: float = PATIENCE_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._gateways = [_Gateway(url.rstrip("/").removesuffix("/v1")) for url in urls]
        for gateway in self._gateways:
            if not gateway.url.startswith(("http://", "https://")):
                raise SparsightError(
                    f"{gateway.url!r} is no address of a gateway; write http://HOST:PORT",
                    param="api",
                )
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        # As the page does: no proxy of the environment, which would look for a loopback address on
        # its own machine.
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )
        self._patience_s = patience_s
        self._change = threading.Condition()
        self._down_since: float | None = None  # no gateway has answered since then
        self._over: GatewayError | None = None
        self.served: Served | None = None

    @property
    def n(self) -> int:
        return len(self._gateways)

    def close(self) -> None:
        """Ends all that waits, then gives the connections back."""
        self.stop(GatewayError("the run has ended"))
        self._http.close()

    def stop(self, why: GatewayError) -> None:
        """Every request that waits, or comes, raises this."""
        with self._change:
            self._over = self._over or why
            self._change.notify_all()

    def check(self) -> Served:
        """What is served. Raises GatewayError where none can be reached or two differ."""
        models: dict[str, Served] = {}
        for gateway in self._gateways:
            try:
                models[gateway.url] = self._model(gateway)
                gateway.is_checked = True
            except (httpx.HTTPError, _Unusable) as error:
                self._rest(gateway, _in_words(error))
        if not models:
            raise GatewayError(
                f"no gateway can be asked: {self._why_down()}; is `sparsight serve` running there?",
                param="api",
            )
        first, served = next(iter(models.items()))
        for url, other in models.items():
            if other != served:
                raise GatewayError(
                    f"{first} serves {_named(served)}, {url} {_named(other)}; name gateways of one "
                    "model",
                    param="api",
                )
        self.served = served
        return served

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that a gateway answered.

        Raises SparsightError for a request that is refused or that gateways do not survive, and
        GatewayError where there is no use in going on.
        """
        lost = ""
        for _ in range(MAX_TRIES):
            answer = self._answered(path, body)
            if not isinstance(answer, str):
                return answer
            lost = answer
        raise SparsightError(f"given up after {MAX_TRIES} tries: {lost}")

    def _answered(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | str:
        """The answer, or how the request was lost by a gateway that had it."""
        while True:
            gateway = self._take()
            try:
                if not gateway.is_checked:
                    self._check_again(gateway)
                response = self._http.post(f"{gateway.url}{path}", json=body)
                return self._read(gateway, response)
            except _Unusable as error:
                self._rest(gateway, str(error), error.retry_after_s)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                self._rest(gateway, _in_words(error))
            except httpx.HTTPError as error:  # it had the request, and may have died of it
                self._rest(gateway, _in_words(error))
                return f"{gateway.url} {_in_words(error)}"
            finally:
                with self._change:
                    gateway.n_open -= 1
                    self._change.notify_all()

    def _read(self, gateway: _Gateway, response: httpx.Response) -> dict[str, Any] | str:
        status = response.status_code
        if status in BUSY:
            raise _Unusable(f"answered {status} (busy)", _retry_after_s(response))
        found = _object(response)
        error = found.get("error") if isinstance(found.get("error"), dict) else None
        message = str(error.get("message", "")) if error else f"HTTP {status} without a reason"
        if status in CLOSED:
            over = GatewayError(f"{gateway.url} refuses this client: {message}", param="api")
            self.stop(over)
            raise over
        if status >= 500:
            time.sleep(FIRST_PAUSE_S)
            return f"{gateway.url} answered {status} ({message})"
        if status >= 400:
            param = None if error is None else error.get("param")
            raise SparsightError(message.removeprefix(f"{param}: "), param=param)
        fingerprint = found.get("system_fingerprint", found.get("fingerprint"))
        if self.served is not None and fingerprint != self.served.fingerprint:
            gateway.is_checked = False
            raise _Unusable("serves another model now")
        with self._change:
            gateway.pause_s = gateway.not_before = 0.0
            gateway.why_down = ""
            self._down_since = None
        return found

    def _take(self) -> _Gateway:
        """The gateway with the fewest open requests of those that may be asked; waits for one."""
        with self._change:
            while True:
                if self._over is not None:
                    raise self._over
                now = time.monotonic()
                if self._down_since is not None and now - self._down_since > self._patience_s:
                    raise GatewayError(
                        f"no gateway has answered for {self._patience_s:.0f} s: "
                        f"{self._why_down()}; what is written is safe, run the same command again",
                        param="api",
                    )
                ready = [each for each in self._gateways if each.not_before <= now]
                if ready:
                    gateway = min(ready, key=lambda each: (each.n_open, random.random()))
                    gateway.n_open += 1
                    if gateway.pause_s:  # one request finds out whether it is back
                        gateway.not_before = now + gateway.pause_s
                    return gateway
                soonest = min(each.not_before for each in self._gateways)
                self._change.wait(min(max(soonest - now, 0.01), 1.0))

    def _rest(self, gateway: _Gateway, why: str, retry_after_s: float | None = None) -> None:
        with self._change:
            pause = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * gateway.pause_s))
            gateway.pause_s = pause
            # Spread, or all clients of a gateway would come back in the same moment.
            wait = max(pause * random.uniform(0.75, 1.25), retry_after_s or 0.0)
            now = time.monotonic()
            gateway.not_before = now + wait
            if self._down_since is None and all(each.pause_s for each in self._gateways):
                self._down_since = now
            gateway.is_checked = gateway.is_checked and retry_after_s is not None
            gateway.why_down = why

    def _check_again(self, gateway: _Gateway) -> None:
        found = self._model(gateway)
        if self.served is not None and found != self.served:
            raise _Unusable(f"serves {_named(found)} now")
        gateway.is_checked = True

    def _model(self, gateway: _Gateway) -> Served:
        response = self._http.get(f"{gateway.url}/v1/models", timeout=30.0)
        if response.status_code in BUSY:
            raise _Unusable(f"answered {response.status_code} (busy)", _retry_after_s(response))
        try:
            card = _object(response)["data"][0]
            ours = card["steering"]
            return Served(str(card["id"]), str(ours["fingerprint"]), int(ours["n_features"]))
        except (KeyError, IndexError, TypeError, ValueError):
            raise _Unusable(
                f"answered {response.status_code} and is no gateway of this version, or wants "
                "another API key"
            ) from None

    def _why_down(self) -> str:
        down = [f"{each.url} {each.why_down}" for each in self._gateways if each.why_down]
        return "; ".join(down) or "all are busy"


class _Unusable(Exception):
    """This gateway cannot answer now; another one may."""

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _retry_after_s(response: httpx.Response) -> float | None:
    told = response.headers.get("retry-after", "")
    return min(float(told), LONGEST_PAUSE_S) if told.isdecimal() else None


def _named(served: Served) -> str:
    return f"{served.name} ({served.fingerprint[:12]})"


def _in_words(error: Exception) -> str:
    return (
        str(error)
        if isinstance(error, _Unusable)
        else f"cannot be reached ({error or type(error).__name__})"
    )
