"""The gateway as the page sees it: HTTP in, plain objects out."""

import base64
import json
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sparse_encoder.errors import SparsightError

TIMEOUT_S = 120.0  # a batch of captions of other clients may come first on a slow CPU


class DemoError(SparsightError):
    """What the gateway said, in its own words; or that it said nothing."""

    code = "gateway_failed"


@dataclass(frozen=True)
class Model:
    """What the gateway serves."""

    name: str
    fingerprint: str
    n_features: int


@dataclass(frozen=True)
class Caption:
    """A whole answer; the receipt is there where edits were sent."""

    text: str
    receipt: dict[str, Any] | None = None


class GatewayClient:
    """Calls of one gateway. Safe to share between threads. Every method raises DemoError."""

    def __init__(self, api_url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.api_url = api_url.rstrip("/")
        # No proxy of the environment: the gateway is nearly always this very process, and a proxy
        # outside would look for it on its own machine.
        self._http = httpx.Client(base_url=self.api_url, timeout=timeout_s, trust_env=False)
        self._model: Model | None = None

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    def model(self) -> Model:
        """The model that is served; asked for once, since one server has one model."""
        if self._model is None:
            with self._failures():
                answer = _checked(self._http.get("/v1/models"))
                card = answer["data"][0]
                ours = card["steering"]
                self._model = Model(card["id"], ours["fingerprint"], ours["n_features"])
        return self._model

    def activations(self, photo: Path, *, top: int) -> list[dict[str, Any]]:
        """The strongest features of a photograph, as ``POST /v1/features/activations`` has them."""
        body = {"image": data_uri(photo), "top": top}
        with self._failures():
            answer = _checked(self._http.post("/v1/features/activations", json=body))
            found: list[dict[str, Any]] = answer["features"]
            return found

    def recipe(
        self,
        name: str,
        edits: Sequence[Mapping[str, Any]],
        recipe: Mapping[str, Any] | None = None,
        resolve_again: bool = False,
    ) -> dict[str, Any]:
        """A recipe of these edits and those of another, each tried on the gateway's model."""
        body = {"name": name, "steering": _steering(edits, recipe, resolve_again)}
        with self._failures():
            return _checked(self._http.post("/v1/steering/recipe", json=body))

    def caption(
        self,
        photo: Path,
        prompt: str,
        edits: Sequence[Mapping[str, Any]],
        recipe: Mapping[str, Any] | None = None,
        resolve_again: bool = False,
    ) -> Caption:
        """The whole answer at once."""
        body = self._chat(photo, prompt, _steering(edits, recipe, resolve_again))
        with self._failures():
            answer = _checked(self._http.post("/v1/chat/completions", json=body))
            receipt = (answer.get("steering") or {}).get("receipt")
            return Caption(answer["choices"][0]["message"]["content"], receipt)

    def stream(
        self,
        photo: Path,
        prompt: str,
        edits: Sequence[Mapping[str, Any]],
        recipe: Mapping[str, Any] | None = None,
        resolve_again: bool = False,
    ) -> Iterator[Caption]:
        """The answer as it grows; the last Caption is whole and has the receipt."""
        body = self._chat(photo, prompt, _steering(edits, recipe, resolve_again))
        body["stream"] = True
        with self._failures(), self._http.stream("POST", "/v1/chat/completions", json=body) as got:
            if got.status_code >= 400:
                got.read()
                _checked(got)
            text, receipt = "", None
            for event in _events(got):
                if "error" in event:
                    raise _as_error(event["error"])
                receipt = (event.get("steering") or {}).get("receipt", receipt)
                for choice in event["choices"]:
                    text += choice["delta"].get("content") or ""
                yield Caption(text, receipt)

    def _chat(self, photo: Path, prompt: str, steering: dict[str, Any]) -> dict[str, Any]:
        content = [
            {"type": "image_url", "image_url": {"url": data_uri(photo)}},
            {"type": "text", "text": prompt},
        ]
        body: dict[str, Any] = {
            "model": self.model().name,
            "messages": [{"role": "user", "content": content}],
        }
        return {**body, "steering": steering} if steering else body

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turns what may go wrong on the way into a DemoError that says what to do."""
        try:
            yield
        except httpx.TimeoutException:
            wait = self._http.timeout.read
            raise DemoError(
                f"no answer from {self.api_url} within {wait:g} s; it may be busy, try again"
            ) from None
        except httpx.HTTPError as error:
            raise DemoError(
                f"no answer from {self.api_url} ({error}); is `sparsight serve` running there?"
            ) from None
        except (KeyError, IndexError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise DemoError(
                f"{self.api_url} sent an answer that is not this gateway's "
                f"({type(error).__name__}: {error}); page and gateway need the same version"
            ) from None


def data_uri(photo: Path) -> str:
    """The file's bytes, untouched, so that the receipt names the sha256 of the user's own file."""
    kind = mimetypes.guess_type(photo.name)[0] or ""
    if not kind.startswith("image/"):
        kind = "image/jpeg"  # the gateway goes by the bytes, but wants some image type
    try:
        content = photo.read_bytes()
    except OSError as error:
        why = error.strerror or error
        raise DemoError(f"the photograph cannot be read: {why}; choose it again") from None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _steering(
    edits: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any] | None, resolve_again: bool
) -> dict[str, Any]:
    """The ``steering`` object, empty where nothing is asked for."""
    out: dict[str, Any] = {"edits": list(edits)} if edits else {}
    if recipe is not None:
        out["recipe"] = dict(recipe)
        if resolve_again:
            out["resolve_again"] = True
    return out


def _checked(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of a good answer; the gateway's own message as a DemoError otherwise."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.status_code >= 400:
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            raise _as_error(body["error"])
        raise DemoError(f"the gateway answered HTTP {answer.status_code} without a message")
    if not isinstance(body, dict):
        raise DemoError("the gateway's answer is no JSON object; is something else at its address?")
    return body


def _as_error(error: Mapping[str, Any]) -> DemoError:
    return DemoError(
        str(error.get("message", "the gateway gave no reason")),
        param=error.get("param"),
        code=error.get("code"),
    )


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """The JSON of each server-sent event up to the end mark, without which a stream is broken."""
    for line in answer.iter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        yield json.loads(data)
        # An error is the last event, without an end mark; the caller raises it.
    raise DemoError("the gateway's stream broke off before its end; ask again")
