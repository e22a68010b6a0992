"""The application's OpenAPI schema, with the errors that it really answers."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import compile_path

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSAL = {
    "description": "OpenAI's error envelope; `param` is the key that it is about.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def add_schema(app: FastAPI) -> None:
    """Gives `app` its schema; made when it is first asked for, once all routes are there."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]


def methods_of(app: FastAPI, path: str) -> set[str]:
    """The methods that the schema has for a path."""
    return {
        method.upper()
        for template, operations in app.openapi()["paths"].items()
        if compile_path(template)[0].fullmatch(path)
        for method in operations
    }


def _described(app: FastAPI) -> dict[str, Any]:
    whole = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = whole.setdefault("components", {}).setdefault("schemas", {})
    components["Error"] = _ERROR
    # FastAPI's own kind of error, which every endpoint here has in the envelope instead.
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for path in whole["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _REFUSAL
    return whole
