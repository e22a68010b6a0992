"""``sparsight train encoder`` and ``sparsight train vlm``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from serving.cli.options import read_settings

F = TypeVar("F", bound=Callable[..., Any])


def _run_options(command: F) -> F:
    for add in (
        click.option(
            "--set",
            "settings",
            multiple=True,
            callback=read_settings,
            metavar="KEY=VALUE",
            help="Change one field of the preset, may be repeated.",
        ),
        click.option(
            "--out",
            required=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder for the run's result.",
        ),
        click.option(
            "--data",
            required=True,
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Folder with the data sets.",
        ),
        click.argument("preset"),
    ):
        command = add(command)
    return command


@click.group()
def train() -> None:
    """Train the parts of a model."""


@train.command()
@_run_options
def encoder(preset: str, data: Path, out: Path, settings: dict[str, Any]) -> None:
    """Train the sparse heads of PRESET, e.g. mini."""
    from sparse_encoder.train import train_encoder

    train_encoder(preset, data, out, settings)


@train.command()
@_run_options
@click.option(
    "--encoder",
    "encoder_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="What `sparsight train encoder` wrote.  [default: the model in the box]",
)
def vlm(
    preset: str, data: Path, out: Path, settings: dict[str, Any], encoder_folder: Path | None
) -> None:
    """Train the projector and LoRA of PRESET, e.g. mini. The same command goes on with a run."""
    from vlm.train_run import train_vlm

    train_vlm(preset, data, out, settings, encoder_folder=encoder_folder)
