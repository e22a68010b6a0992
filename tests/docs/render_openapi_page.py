"""Writes docs/reference/openapi.md: the server's schema, docs/reference/openapi.json, for people.

``python tests/docs/render_openapi.py`` writes both.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SOURCE = REFERENCE / "openapi.json"
TARGET = REFERENCE / "openapi.md"
INTRO = """# HTTP schema

<!-- Made by tests/docs/render_openapi_page.py; do not edit by hand. -->

Every route and key of the server, from [openapi.json](openapi.json), which it also answers at
`GET /openapi.json`. [What the routes are for, with examples](http-api.md), stands on a page of its own.

Errors have the form of OpenAI's: [Error](#error), with the HTTP status that fits.

In the tables a key inside of another is written `outer.inner`, one of a list's entries `list[].key`. A
**bold** key is needed, or always there.
"""
TABLE = ["| key | type | |", "| --- | --- | --- |"]
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "maxProperties": "at most {} keys",
    "pattern": "like `{}`",
}


def render(schema: dict[str, Any]) -> str:
    """The whole page."""
    lines = [INTRO, "## Routes\n"]
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            lines += _route(f"{method.upper()} {path}", route)
    lines.append("## Objects\n")
    for name, kind in sorted(schema["components"]["schemas"].items()):
        lines += [f"### {name}\n"]
        if kind.get("description"):
            lines += [_words(kind["description"]) + "\n"]
        lines += [*TABLE, *_rows(kind), ""]
    return "\n".join(lines)


def _route(title: str, route: dict[str, Any]) -> Iterator[str]:
    yield f"### {title}\n"
    yield f"{_words(route['description'])}\n"
    if route.get("parameters"):
        yield from ["| parameter | in | type | |", "| --- | --- | --- | --- |"]
        for one in route["parameters"]:
            name = _key(one["name"], one.get("required", False))
            about = _about({"description": one.get("description", ""), **one["schema"]})
            yield f"| {name} | {one['in']} | {_type(one['schema'])} | {about} |"
        yield ""
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        yield f"Body, `{kind}`:\n"
        yield from [*TABLE, *_rows(content["schema"]), ""]
    for kind, content in route["responses"]["200"].get("content", {}).items():
        yield f"Answer, `{kind}`: {_type(content['schema'])}\n"


def _rows(kind: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A row for each key of an object, then for those of what it holds."""
    for name, one in kind.get("properties", {}).items():
        key = _key(f"{prefix}{name}", name in kind.get("required", []))
        yield f"| {key} | {_type(one)} | {_about(one)} |"
        for inner, ending in _inside(one):
            yield from _rows(inner, f"{prefix}{name}{ending}.")


def _inside(one: dict[str, Any], ending: str = "") -> Iterator[tuple[dict[str, Any], str]]:
    """The objects that a value may be or hold, with what the way there adds to the key."""
    if one.get("properties"):
        yield one, ending
    if isinstance(one.get("items"), dict):
        yield from _inside(one["items"], ending + "[]")
    for choice in _choices(one):
        yield from _inside(choice, ending)


def _choices(one: dict[str, Any]) -> list[dict[str, Any]]:
    return [*one.get("anyOf", []), *one.get("oneOf", [])]


def _type(one: dict[str, Any]) -> str:
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if _choices(one):
        return " or ".join(dict.fromkeys(_type(choice) for choice in _choices(one)))
    if "const" in one:
        return f"`{json.dumps(one['const'])}`"
    if "enum" in one:
        return " or ".join(f"`{json.dumps(value)}`" for value in one["enum"])
    if one.get("type") == "array":
        return f"list of {_type(one.get('items', {}))}"
    kind = one.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _about(one: dict[str, Any]) -> str:
    """Meaning, default and bounds, which may stand at one of several choices."""
    said = [_words(one["description"])] if one.get("description") else []
    if one.get("default") not in (None, "", [], {}):
        said.append(f"Default `{json.dumps(one['default'])}`.")
    bounds = dict.fromkeys(
        words.format(f"{choice[key]:g}" if isinstance(choice[key], float) else choice[key])
        for choice in [one, *_choices(one)]
        for key, words in LIMITS.items()
        if key in choice
    )
    if bounds:
        said.append(f"{', '.join(bounds)}.".capitalize())
    return " ".join(said).replace("|", "\\|")


def _key(name: str, needed: bool) -> str:
    return f"**`{name}`**" if needed else f"`{name}`"


def _words(text: str) -> str:
    """A docstring's text as Markdown."""
    return " ".join(text.replace("``", "`").split())


def main() -> None:
    TARGET.write_text(render(json.loads(SOURCE.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
