"""Options and steps that several commands share."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from serving.cli.progress import loading

if TYPE_CHECKING:
    from vlm.pipeline import Pipeline
    from vlm.steer_from import SteerFrom

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


def steer_options(command: F) -> F:
    """``--steer`` and ``--resolve-again``, ``--steer-from`` and ``--top``: where edits come from."""
    options = (
        click.option(
            "--steer",
            multiple=True,
            callback=read_edits,
            metavar="EDIT",
            help="Edit of the code, may be repeated: dog=0 removes, cat=1 sets to 1 p99 (the "
            "concept's 99th percentile; at most 8), cat=1.2raw in raw units, cat*1.5 scales, "
            "cat+0.4 adds, #812=1 names a feature, cat=1@0,0,0.5,1 keeps to a region x0,y0,x1,y1 in "
            "fractions of the image.",
        ),
        click.option(
            "--resolve-again",
            is_flag=True,
            help="Take a recipe that was made for another model by its concepts; refused where it "
            "has edits of features or raw doses.",
        ),
        click.option(
            "--steer-from",
            metavar="PHOTO",
            help="Another photograph: its strongest features that this one lacks are clamped to "
            "their activation there, on top of --steer.",
        ),
        click.option(
            "--top",
            type=click.IntRange(1, 64),
            default=8,
            show_default=True,
            help="With --steer-from: how many features, at most.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


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


def read_steer_from(path: str, top: int) -> "SteerFrom":
    """The photograph at `path`, to take features from; named by its file in receipts."""
    from pathlib import Path

    from sparse_encoder.image import open_image
    from vlm.steer_from import SteerFrom

    return SteerFrom(open_image(path), top, name=Path(path).name)


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
