"""``sparsight features report | export``: all features as pages, or for other tools.

The commands join the group ``features`` through `REPORT_COMMANDS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from serving.cli.features_find import load_features

if TYPE_CHECKING:
    from sparse_encoder.feature_report.pictures import TopPictures
    from sparse_encoder.feature_report.rows import Neighbours

F = TypeVar("F", bound=Callable[..., Any])


def _source_options(command: F) -> F:
    for add in (
        click.option("--force", is_flag=True, help="Replace what was written to --out before."),
        click.option(
            "--neighbours/--no-neighbours",
            default=True,
            show_default=True,
            help="The features most like each, by the image head's directions.",
        ),
        click.option(
            "--photos",
            multiple=True,
            metavar="PHOTO|FOLDER",
            help="Photographs that may be shown: each feature's strongest of them go in, with "
            "where it is active. Without any there are no pictures.",
        ),
        click.option(
            "--out",
            required=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder to write to.",
        ),
        click.argument("model", metavar="MODEL", default="sparsight-mini"),
    ):
        command = add(command)
    return command


@click.command()
@_source_options
def report(model: str, out: Path, photos: tuple[str, ...], neighbours: bool, force: bool) -> None:
    """Write all features of MODEL as pages that open from disk, without a server or a network.

    A table to search, sort and cut down by trust, features by modality and density, and a view of each
    feature that is loaded when it is opened: names, trust, percentiles, neighbours, and where it is
    active. Prints the page's path.
    """
    from sparse_encoder.feature_report.write import write_report

    opened, pictures, near = _sources(model, photos, neighbours)
    written = write_report(
        opened.atlas,
        out,
        opened.name,
        pictures=pictures,
        neighbours=near,
        top_images=opened.top_images,
        overwrite=force,
    )
    click.echo(f"{written.n_files} files, {written.n_bytes / 1e6:.1f} MB", err=True)
    click.echo(written.page)


@click.command()
@click.option(
    "--format",
    "layout",
    type=click.Choice(["neuronpedia"]),
    default="neuronpedia",
    show_default=True,
    help="SAEDashboard's JSON, which Neuronpedia reads: batch-0.json and so on.",
)
@_source_options
def export(
    model: str, out: Path, photos: tuple[str, ...], neighbours: bool, force: bool, layout: str
) -> None:
    """Write all features of MODEL in another tool's layout. Prints the folder."""
    from sparse_encoder.feature_report.neuronpedia import export_neuronpedia

    opened, pictures, near = _sources(model, photos, neighbours)
    n_files = export_neuronpedia(
        opened.atlas, out, opened.name, pictures=pictures, neighbours=near, overwrite=force
    )
    click.echo(f"{n_files} files in the layout of {layout}", err=True)
    click.echo(out)


REPORT_COMMANDS = (report, export)


def _sources(
    model: str, photos: tuple[str, ...], neighbours: bool
) -> "tuple[Any, TopPictures | None, Neighbours | None]":
    """The opened model, its pictures and its features' neighbours; what takes long is told."""
    opened = load_features(model)
    from tqdm import tqdm

    from serving.features.pages import head_neighbours, top_pictures

    with tqdm(unit="photo", disable=None if photos else True) as bar:
        pictures = top_pictures(opened, photos, lambda _: bar.update() and None)
    return opened, pictures, head_neighbours(opened) if neighbours else None
