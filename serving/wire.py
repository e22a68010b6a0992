"""What all wire types share: strict reading, and refusals that name the key.

A key that we do not know is an error, not a shrug: a misspelt field that is dropped gives a wrong
answer that looks right. A key of OpenAI's that we do not serve is refused as such, unless its value
asks for nothing (null, or the value that OpenAI takes for granted).
"""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from sparse_encoder.errors import SparsightError

W = TypeVar("W", bound="Wire")


class Wire(BaseModel):
    """Base of what clients send. A null means the same as leaving the key out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    # Keys of OpenAI's that are not served, each with the value that changes nothing.
    unsupported: ClassVar[Mapping[str, Any]] = {}
    # Why, for some of them; and keys that are read and not used, whatever they say.
    reasons: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {}
        for key, value in data.items():
            if key in cls.unsupported:
                if value is not None and not _same(value, cls.unsupported[key]):
                    context = {"key": key, "reason": cls.reasons.get(key, "")}
                    raise PydanticCustomError("unsupported_parameter", "", context)
            elif key in cls.ignored:
                continue
            elif key not in (names := [f.alias or name for name, f in cls.model_fields.items()]):
                near = get_close_matches(key, names, n=1)
                context = {"key": key, "near": near[0] if near else ""}
                raise PydanticCustomError("unknown_parameter", "", context)
            elif value is not None:
                kept[key] = value
        return kept


def parse_wire(kind: type[W], data: Mapping[str, Any]) -> W:
    """`data` as `kind`. Raises SparsightError about its first fault, `param` the key's path."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0]) from None


def param_path(loc: tuple[int | str, ...]) -> str:
    """``messages[0].content[1].type`` from pydantic's location; tags such as <parts> left out."""
    out = ""
    for step in loc:
        if isinstance(step, int):
            out += f"[{step}]"
        elif not step.startswith("<"):
            out += f".{step}" if out else step
    return out


def _refusal(detail: ErrorDetails) -> SparsightError:
    kind, context = detail["type"], detail.get("ctx", {})
    key = (str(context["key"])[:80],) if "key" in context else ()
    param = param_path((*detail["loc"], *key))
    if kind == "unsupported_parameter":
        why = f": {context['reason']}" if context.get("reason") else ""
        message = f"{param} is not supported here{why}; leave it out"
    elif kind == "unknown_parameter":
        near = f"; did you mean {context['near']}?" if context["near"] else ""
        message = f"unknown parameter {param}{near}"
    elif kind == "missing":
        kind, message = "missing_parameter", f"{param} is missing"
    else:
        kind, words = "invalid_value", detail["msg"].removeprefix("Value error, ")
        message = f"{param}: {words}"
        if words.startswith("Input "):
            message = f"{param} {words.removeprefix('Input ')}, got {_short(detail['input'])}"
    return SparsightError(message, param=param, code=kind)


def _same(value: object, neutral: object) -> bool:
    """Equal as JSON: for Python True is 1."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _short(value: object) -> str:
    """`value` as JSON, or only its kind where that would be long."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
