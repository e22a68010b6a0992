"""Options and steps that several commands share."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from serving.cli.progress import loading

if TYPE_CHECKING:
    from vlm.pipeline import Pipeline

F = TypeVar("F", bound=Callable[..., Any])


def model_option(command: F) -> F:
    """``--model``, the name of a model in the box or a folder."""
    return click.option(
        "--model",
        default="sparsight-mini",
        show_default=True,
        metavar="NAME|FOLDER",
        help="Model to use.",
    )(command)


def load_pipeline(model: str) -> "Pipeline":
    """The model's pipeline; says on standard error that this takes a while."""
    with loading(model) as progress:
        from vlm.pipeline import Pipeline

        return Pipeline.load(model, progress=progress)


def read_edits(
    _: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[dict[str, Any], ...]:
    """Callback of an option that takes edits such as ``dog=0``: their JSON shapes."""
    from sparse_encoder.errors import SparsightError
    from vlm.shorthand import parse_shorthand

    try:
        return tuple(parse_shorthand(text) for text in texts)
    except SparsightError as error:
        raise click.BadParameter(error.message, param=param) from error


def read_settings(
    _: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, Any]:
    """Callback of an option that takes ``key=value``, each value read as JSON where it is JSON."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is no key=value", param=param)
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings
