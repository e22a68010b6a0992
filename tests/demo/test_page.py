"""The page as it is mounted: it opens, stays on this machine, and leaves nothing behind."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import demo.page
from demo import wiring
from demo.callbacks import N_SLOTS, NO_SLOTS
from demo.client import GatewayClient
from demo.page import build, mount
from demo.wiring import message

EDIT = {"op": "ablate", "feature": 0}


@pytest.fixture(scope="module")
def page_url(fakes: ModuleType) -> Any:
    """The address of a gateway with the page, which calls that same gateway."""
    with fakes.bind("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    original = fakes.bind
    fakes.bind = lambda host, _: original(host, port)
    try:
        with fakes.served(fakes.FakePipeline(), mounts=[lambda app: mount(app, address)]) as url:
            fakes.bind = original  # other servers may start meanwhile
            yield url
    finally:
        fakes.bind = original


def test_the_page_and_the_api_live_in_one_process(page_url: str) -> None:
    page = httpx.get(f"{page_url}/demo/")
    assert page.status_code == 200 and "Sparsight" in page.text
    assert httpx.get(f"{page_url}/v1/models").status_code == 200


def test_the_address_that_is_printed_opens_the_page(page_url: str) -> None:
    page = httpx.get(f"{page_url}/demo", follow_redirects=True)
    assert page.status_code == 200 and page.url.path == "/demo/"


def test_the_page_loads_nothing_from_elsewhere(page_url: str) -> None:
    page = httpx.get(f"{page_url}/demo/").text
    theme = httpx.get(f"{page_url}/demo/theme.css").text
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+)"', page) + re.findall(
        r"url\(['\"]?(https?://[^'\")]+)", page + theme
    )
    assert [address for address in loaded if not address.startswith(page_url)] == []


def test_no_usage_data_is_sent(page_url: str) -> None:
    config = httpx.get(f"{page_url}/demo/config").json()
    assert config["analytics_enabled"] is False


def test_building_the_page_calls_nobody() -> None:
    build("http://127.0.0.1:9")  # nothing listens there


def test_mounting_gives_back_the_same_application() -> None:
    app = FastAPI()
    assert mount(app, "http://127.0.0.1:9") is app


def test_a_message_of_others_is_shown_as_text() -> None:
    shown = message(error="<script>alert(1)</script>")
    assert "<script>" not in str(shown.value) and "&lt;script&gt;" in str(shown.value)


def test_gradio_writes_no_file_beside_the_page() -> None:
    assert list(Path(demo.page.__file__).parent.glob("*.pyi")) == []


def test_every_handler_gives_as_many_values_as_the_page_shows(
    client: GatewayClient, photo: Path
) -> None:
    """A loaded recipe survives another photograph, and a reset ends it."""
    recipe = {"name": "r", "description": "", "fingerprint": "f" * 64, "edits": [EDIT]}
    untouched = [None] * N_SLOTS
    content = json.dumps(recipe).encode()
    handlers = {
        fn.fn.func if isinstance(fn.fn, partial) else fn.fn: fn for fn in build("x").fns.values()
    }

    def call(handler: Callable[..., Any], *inputs: Any) -> list[Any]:
        out = handler(*inputs)
        assert len(out) == len(handlers[getattr(handler, "func", handler)].outputs)
        return list(out)

    assert call(wiring._load, content, None, False, NO_SLOTS, "", *untouched)[1] == recipe
    assert "no JSON" in call(wiring._load, b"{", None, False, NO_SLOTS, "", *untouched)[0].value
    save = partial(wiring._save, client)
    saved = call(save, "r", None, False, NO_SLOTS, "#0=0", *untouched)[1].value
    assert json.loads(saved) == recipe
    assert "name" in call(save, "", recipe, False, NO_SLOTS, "", *untouched)[0].value
    assert "recipe r: #0=0" in call(partial(wiring._show_photo, client), str(photo), recipe)
    assert call(partial(wiring._reset, client), str(photo))[0] is None
