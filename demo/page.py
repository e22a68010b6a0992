"""The page, and how it is mounted beside the API.

Gradio is loaded with this module, which takes seconds; only the entry point `mount` imports it.
"""

import os

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from gradio.themes.utils.fonts import LocalFont

from demo.client import GatewayClient
from demo.example_photos import example_photos
from demo.widgets import draw_answering, draw_editing, draw_looking
from demo.wiring import connect

PATH = "/demo"
# Fonts that lie in Gradio's package. Of Source Sans Pro it has Regular and Bold in full; its
# SemiBold, which is Gradio's own default, is a stub that browsers reject.
SANS = (LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif")
CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
h1, h2, strong, button { font-weight: 700 !important; }
.message { padding: 8px 12px; border-radius: 6px; border: 1px solid; overflow-wrap: anywhere; }
.message.error { color: #991b1b; background: #fef2f2; border-color: #fca5a5; }
.message.note { color: #1e3a8a; background: #eff6ff; border-color: #bfdbfe; }
.caption textarea { font-size: 1.15em; line-height: 1.45; }
"""


def mount(app: FastAPI, api_url: str) -> FastAPI:
    """`app` with the page at /demo, which calls the gateway at `api_url`."""
    # The gateway redirects nothing by itself, and Gradio's application begins at the slash.
    app.add_api_route(PATH, lambda: RedirectResponse(f"{PATH}/"), include_in_schema=False)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        build(api_url),
        path=PATH,
        footer_links=[],
        run_history=False,  # photographs are not kept, not even in the browser
        ssr_mode=False,
        show_error=True,
        allowed_paths=sorted({str(path.parent) for path in example_photos()}),
        max_file_size="20mb",  # a data URI is a third larger, and the gateway takes 32 MiB
        theme=gr.themes.Default(font=SANS),
        css=CSS,
    )
    return mounted


def build(api_url: str) -> gr.Blocks:
    """The page. Calls nothing until it is opened, so the gateway may start later."""
    # Read by Gradio wherever it would send usage data; our page has no such wish.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    page: gr.Blocks
    with gr.Blocks(title="Sparsight", analytics_enabled=False) as page:
        looking, editing, answering = draw_looking(), draw_editing(), draw_answering()
        connect(page, GatewayClient(api_url), looking, editing, answering)
    return page
