"""Serving from the command line: the port, the example request, the pages, the server."""

import asyncio
import base64
import json
import shlex
import socket
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from serving.app import Mount
from sparse_encoder.errors import SparsightError
from sparse_encoder.parts import cache_dir

PAGES = "sparsight.pages"  # entry points: callables (app, api_url) that mount a page
EXAMPLE_STEERING = {
    "edits": [{"concept": "cat", "op": "ablate"}, {"concept": "dog", "op": "clamp", "value": 1.0}]
}


def bind(host: str, port: int) -> socket.socket:
    """A socket that holds the port (0: any free one) before the slow part of starting begins.

    It does not listen yet, so that clients are refused rather than left waiting meanwhile.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without, every answer waits 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        why = getattr(error, "strerror", None) or error
        raise SparsightError(
            f"cannot serve on {host}:{port}: {why}; choose another --port or --host", param="port"
        ) from None
    return bound


def address(bound: socket.socket) -> str:
    """The URL under which this machine reaches the socket."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load_pages(api_url: str) -> list[Mount]:
    """What mounts each installed page. Raises SparsightError where there is none to mount."""
    found = list(entry_points(group=PAGES))
    if not found:
        raise SparsightError(
            "no demo page is installed beside this program; install it again with "
            "`pip install -e .`, or serve with --no-demo",
            param="demo",
        )
    return [_mount(entry.load(), api_url) for entry in found]


def _mount(page: Callable[[FastAPI, str], object], api_url: str) -> Mount:
    return lambda app: page(app, api_url)


def example_photo() -> Path | None:
    """The photograph that comes with the demo; None where that is not installed."""
    demo = find_spec("demo")  # by name: no import of ours may point up to the pages
    for folder in (demo.submodule_search_locations or ()) if demo is not None else ():
        photo = Path(folder) / "examples" / "chelsea.jpg"
        if photo.is_file():
            return photo
    return None


def example_curl(api_url: str, model: str, photo: Path) -> str | None:
    """One command line that asks for a steered caption; its request lies in a file in the cache.

    None where nothing can be written there, as in a container.
    """
    kind = "png" if photo.suffix == ".png" else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(photo.read_bytes()).decode()}"
    content = [
        {"type": "text", "text": "Describe the image in one sentence."},
        {"type": "image_url", "image_url": {"url": uri}},
    ]
    request = {
        "model": model,
        "steering": EXAMPLE_STEERING,
        "messages": [{"role": "user", "content": content}],
    }
    file = cache_dir() / "example-request.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(request))
    except OSError:
        return None
    return (
        f"curl -s {api_url}/v1/chat/completions -H 'content-type: application/json' "
        f"-d {shlex.quote(f'@{file}')}"
    )


class _Server(uvicorn.Server):
    """Says when it is ready, and ends within a time of grace, with exit code 0.

    What is open when it is told to stop goes on for most of that time; what is still open then gets
    an error, so that its client knows that the answer is not whole.
    """

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], stop: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn keeps the signal to raise it again at the end; a stop that was asked for and done
        # is no failure.
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        late = asyncio.create_task(self._refuse_late())
        try:
            await super().shutdown(sockets=sockets)
        finally:
            late.cancel()

    async def _refuse_late(self) -> None:
        await asyncio.sleep((self.config.timeout_graceful_shutdown or 0) * 0.7)
        await asyncio.to_thread(self._stop)


def run(app: FastAPI, bound: socket.socket, ready: Callable[[], None], grace_s: int = 10) -> None:
    """Serves until told to stop; `ready` is called once requests are answered.

    grace_s: how long answers that are open then may go on.
    """
    _serve(app, bound, ready, app.state.gateway.refuse, grace_s)


def run_page(app: FastAPI, bound: socket.socket, ready: Callable[[], None]) -> None:
    """The same for an application that has no model: what is open at the end is just left."""
    _serve(app, bound, ready, lambda: None, grace_s=2)


def _serve(
    app: FastAPI,
    bound: socket.socket,
    ready: Callable[[], None],
    stop: Callable[[], None],
    grace_s: int,
) -> None:
    # uvicorn's own start and access lines go to standard output, which is for data here; so would
    # its way to set up logs, where ours is set up already. Its Server header names a version.
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace_s,
    )
    _Server(config, ready, stop).run(sockets=[bound])
