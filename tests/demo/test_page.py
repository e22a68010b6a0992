"""The page as it is mounted: it opens, stays on this machine, and leaves nothing behind."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from fastapi import FastAPI

import demo.page
from demo.page import build, mount


@pytest.fixture(scope="module")
def page_url(
    fakes: ModuleType, serve_page: Callable[..., AbstractContextManager[str]]
) -> Iterator[str]:
    """The address of a gateway with the page."""
    with serve_page(fakes.FakePipeline()) as url:
        yield url


def test_the_page_and_the_api_live_in_one_process(page_url: str) -> None:
    page = httpx.get(f"{page_url}/demo/")
    assert page.status_code == 200 and 'id=\\"sparsight\\"' in page.text
    assert httpx.get(f"{page_url}/v1/models").status_code == 200


def test_the_address_that_is_printed_opens_the_page(page_url: str) -> None:
    page = httpx.get(f"{page_url}/demo", follow_redirects=True)
    assert page.status_code == 200 and page.url.path == "/demo/"


def test_all_that_the_page_loads_is_there(page_url: str) -> None:
    """What its scripts import, and the files that its head names."""
    head = httpx.get(f"{page_url}/demo/config").json()["head"]
    todo, seen = set(re.findall(r'(?:src|href)="(page/[^"]+)"', head)), set()
    assert {"page/app.js", "page/page.css"} <= todo
    while todo:
        path = todo.pop()
        seen.add(path)
        got = httpx.get(f"{page_url}/demo/{path}")
        assert got.status_code == 200, path
        assert got.headers["cache-control"] == "no-cache"
        todo |= {f"page/{name}" for name in re.findall(r'from "\./([^"]+)"', got.text)} - seen
    files = {f"page/{file.name}" for file in demo.page.FILES.iterdir() if file.is_file()}
    assert seen == files  # and nothing lies there unused


def test_the_page_loads_nothing_from_elsewhere(page_url: str) -> None:
    page = httpx.get(f"{page_url}/demo/").text
    theme = httpx.get(f"{page_url}/demo/theme.css").text
    ours = "".join(file.read_text() for file in demo.page.FILES.iterdir() if file.is_file())
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+)"', page) + re.findall(
        r"(?:url\(|from |import\()['\"]?(https?://[^'\")]+)", page + theme + ours
    )
    assert [address for address in loaded if not address.startswith(page_url)] == []


def test_no_usage_data_is_sent(page_url: str) -> None:
    config = httpx.get(f"{page_url}/demo/config").json()
    assert config["analytics_enabled"] is False


def test_no_file_of_this_machine_is_handed_out(page_url: str) -> None:
    for path in ("page/..%2fpage.py", "page/examples/..%2f__init__.py", "page/%2fetc%2fpasswd"):
        assert httpx.get(f"{page_url}/demo/{path}").status_code in (403, 404), path


def test_building_the_page_calls_nobody() -> None:
    build()


def test_mounting_gives_back_the_same_application() -> None:
    app = FastAPI()
    assert mount(app, "http://127.0.0.1:9") is app


def test_gradio_writes_no_file_beside_the_page() -> None:
    assert list(Path(demo.page.__file__).parent.glob("*.pyi")) == []
