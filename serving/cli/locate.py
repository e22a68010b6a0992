"""``sparsight locate``: where in a photograph a feature or a concept is."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli.options import load_pipeline, model_option

if TYPE_CHECKING:
    from sparse_encoder.locate import CellMap


@click.command()
@click.argument("photo", metavar="PHOTO")
@click.option("--feature", type=int, metavar="N", help="Index of the feature to locate.")
@click.option("--concept", metavar="TEXT", help="Or a concept: the sum of its features' maps.")
@click.option(
    "--k",
    type=click.IntRange(1, 16),
    default=16,
    show_default=True,
    help="How many features a concept becomes, those with the strongest claim to it.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Write the photograph with the map over it, at its own size.",
)
@click.option("--force", is_flag=True, help="Overwrite --out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@model_option
def locate(
    photo: str,
    feature: int | None,
    concept: str | None,
    k: int,
    out: Path | None,
    force: bool,
    as_json: bool,
    model: str,
) -> None:
    """Print the cells of a photograph in which a feature, or a concept's features, are active.

    PHOTO may be - for standard input. Rows go from the top, numbers are raw activations. The region
    is the box around the strongest cell and its neighbours of at least half its activation: left,
    top, right and bottom edge in fractions of the upright photograph.
    """
    if (feature is None) == (concept is None):
        raise click.UsageError("give one of --feature and --concept")
    if out is not None and out.exists() and not force:
        raise click.UsageError(f"{out} exists; --force overwrites it")
    from sparse_encoder.image import UNREDUCED, decode_image, open_image
    from sparse_encoder.overlay import draw_overlay
    from vlm.explain.place import locate as find_cells

    content = sys.stdin.buffer.read() if photo == "-" else None
    image = open_image(photo) if content is None else decode_image(content)
    pipeline = load_pipeline(model)
    found = find_cells(pipeline, image, feature=feature, concept=concept, k=k)
    names = [pipeline.atlas.names[j] for j in found.features]
    if out is not None:
        # The model sees a reduced copy; what a person sees is drawn on the photograph itself.
        if image.size != image.pixels.size:
            image = (
                open_image(photo, UNREDUCED)
                if content is None
                else decode_image(content, UNREDUCED)
            )
        draw_overlay(image.pixels, found).save(out, "PNG")
        click.echo(f"wrote {out}", err=True)
    if as_json:
        click.echo(json.dumps({**found.to_json(), "names": names}))
        return
    for line in _lines(found, names):
        click.echo(line)


def _lines(found: "CellMap", names: list[str]) -> Iterator[str]:
    named = (f"{j} {name}".strip() for j, name in zip(found.features, names, strict=True))
    yield f"features: {', '.join(named)}"
    if found.strongest is None or found.region is None:
        yield "active in no cell"
        return
    row, col = found.strongest
    yield f"strongest cell: row {row + 1}, column {col + 1} of {' x '.join(map(str, found.cells.shape))}"
    yield f"region: {','.join(f'{edge:.3f}' for edge in found.region)}"
    for cells in found.cells.tolist():
        yield " ".join(f"{activation:6.1f}" for activation in cells)
