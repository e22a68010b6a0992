"""The page, and how it is mounted beside the API.

Gradio hosts it; what is seen lies in ``page_files/``: plain JavaScript that asks the gateway over HTTP
like any client. A slider's way through Gradio's queue and a Python handler would be a detour of two more
hops before the first word.

Gradio is loaded with this module, which takes seconds; only the entry point `mount` imports it.
"""

import os
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from gradio.themes.utils.fonts import LocalFont
from starlette.staticfiles import StaticFiles

PATH = "/demo"
FILES = Path(__file__).with_name("page_files")
EXAMPLES = Path(__file__).with_name("examples")
# Fonts that lie in Gradio's package and have all letters; most of its others are stubs.
SANS = (LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")
MONO = (LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace")
HEAD = """
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="page/icon.svg">
<link rel="stylesheet" href="page/page.css">
<script type="module" src="page/app.js"></script>
"""
ROOT = (
    '<div id="sparsight" lang="en">'
    "<noscript>The page needs JavaScript; the API at /v1 does not.</noscript></div>"
)


def mount(app: FastAPI, api_url: str) -> FastAPI:
    """`app` with the page at /demo. `app` has to answer /v1 itself: `api_url` is its own address."""
    # The gateway redirects nothing by itself, and Gradio's application begins at the slash.
    app.add_api_route(PATH, lambda: RedirectResponse(f"{PATH}/"), include_in_schema=False)
    # Before Gradio, which takes every address below /demo. The name is not one of its own.
    app.mount(f"{PATH}/page/examples", _Fresh(directory=EXAMPLES))
    app.mount(f"{PATH}/page", _Fresh(directory=FILES))
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        build(),
        path=PATH,
        footer_links=[],
        run_history=False,  # photographs are not kept, not even in the browser
        ssr_mode=False,
        theme=gr.themes.Base(font=SANS, font_mono=MONO),
        head=HEAD,
    )
    return mounted


def build() -> gr.Blocks:
    """The page as Gradio has it: one place, which the page's own script fills."""
    # Read by Gradio wherever it would send usage data; our page has no such wish.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    page: gr.Blocks
    with gr.Blocks(title="Sparsight", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(ROOT, padding=False, apply_default_css=False, js_on_load=None)
    return page


class _Fresh(StaticFiles):
    """Files that a browser asks for again each time, so that a new version is not mixed with an old."""

    def file_response(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response
