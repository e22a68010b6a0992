"""Writes docs/reference/openapi.json, what ``GET /openapi.json`` of the server says, and its page."""

import json
from pathlib import Path

import render_openapi_page

TARGET = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"


def render() -> str:
    """The schema of the application, which does not depend on the model behind it."""
    from serving.app import create_app
    from tests.tiny_model import tiny_pipeline

    app = create_app(tiny_pipeline())
    app.state.gateway.worker.close()
    return json.dumps(app.openapi(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    render_openapi_page.main()
