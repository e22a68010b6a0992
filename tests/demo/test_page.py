"""The page as it is mounted: it opens, stays on this machine, and leaves nothing behind."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import demo.page
from demo.page import build, mount
from demo.wiring import message


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
            yield url
    finally:
        fakes.bind = original


def test_the_page_and_the_api_live_in_one_process(page_url: str) -> None:
    page = httpx.get(f"{page_url}/demo/")
    assert page.status_code == 200 and "Sparsight" in page.text
    assert httpx.get(f"{page_url}/v1/models").status_code == 200


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
