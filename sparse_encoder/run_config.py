"""Changing single fields of a run's configuration from ``key=value`` settings."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from sparse_encoder.errors import SparsightError

T = TypeVar("T")


def override(config: T, settings: Mapping[str, Any]) -> T:
    """A frozen dataclass with some fields changed; a nested field is written ``edits.swap``.

    Raises SparsightError for an unknown field or a value of another type.
    """
    known = sorted(f.name for f in fields(config))  # type: ignore[arg-type]
    changed: dict[str, Any] = {}
    for key, value in settings.items():
        name, _, rest = key.partition(".")
        if name not in known:
            raise SparsightError(
                f"there is no setting {key!r}; known are {', '.join(known)}", param=key
            )
        old = changed.get(name, getattr(config, name))
        changed[name] = override(old, {rest: value}) if rest else _fit(value, old, key)
    # All at once: fields may only be right together, as activation=topk and its k.
    result: T = replace(config, **changed)  # type: ignore[type-var]
    return result


def _fit(value: Any, old: Any, key: str) -> Any:
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(old, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(old):
        raise SparsightError(
            f"{key}={value!r}: expected a {type(old).__name__} such as {old!r}", param=key
        )
    return value
