"""The page on a live gateway, in Debian's Chromium where there is one."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from demo.page import mount
from serving.app import create_app
from tests.live_server import listening
from tests.tiny_model import tiny_pipeline

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 30_000  # a busy machine is no failure
# The camera of the tests is Chromium's own test film.
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def page_on(pipeline: Any, port: int = 0) -> AbstractContextManager[str]:
    """A gateway over `pipeline` with the page; yields the gateway's address."""
    return listening(create_app(pipeline, mounts=[lambda app: mount(app, "")]), port)


@pytest.fixture(scope="session")
def serve_app() -> Callable[..., AbstractContextManager[str]]:
    return listening


@pytest.fixture(scope="session")
def serve_page() -> Callable[..., AbstractContextManager[str]]:
    return page_on


@pytest.fixture(scope="module")
def tiny_page() -> Iterator[str]:
    """A gateway over tiny random weights, with the page."""
    with page_on(tiny_pipeline()) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser. A module's, not the session's: while it lives, no test may run a loop of its own."""
    # `make test-browser` asks for these tests by name, so there they may not all be skipped in silence.
    absent = pytest.fail if os.environ.get("SPARSIGHT_BROWSER_TESTS") == "required" else pytest.skip
    try:
        import playwright.sync_api as api
    except ImportError:
        absent("Playwright is not installed: pip install playwright")
    named = os.environ.get("SPARSIGHT_CHROMIUM")
    path = named or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        absent("no Chromium found: apt-get install chromium, or set SPARSIGHT_CHROMIUM")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page as one more user, and waits until it is ready. No script may fail on it."""
    contexts, faults = [], []

    def open_page(url: str, *, ready: bool = True, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
        context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda fault: faults.append(fault))
        page.goto(url if "/demo" in url else f"{url}/demo/")
        if ready:
            page.wait_for_selector("#sparsight[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
