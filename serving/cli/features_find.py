"""``sparsight features search | show | contrast``: find features by words, by index, by photographs.

The commands join the group ``features`` through `FIND_COMMANDS`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from serving.cli.feature_sheet import feature_sheet
from serving.cli.options import model_option
from serving.cli.progress import loading

if TYPE_CHECKING:
    from serving.features.opened import OpenedFeatures

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object, no table.")


def load_features(model: str) -> "OpenedFeatures":
    """The model's encoder and atlas; says on standard error that this takes a while."""
    with loading(model) as progress:
        from serving.features.opened import open_features

        return open_features(model, progress)


@click.command()
@click.argument("query")
@click.option(
    "--limit",
    type=click.IntRange(1, 100),
    default=20,
    show_default=True,
    help="Features a page.",
)
@click.option("--cursor", metavar="CURSOR", help="The next page: next_cursor of the one before.")
@json_option
@model_option
def search(query: str, limit: int, cursor: str | None, as_json: bool, model: str) -> None:
    """Print the features that answer to QUERY, a word or a short phrase, best first.

    Features called so come first; after them names that begin with it, hold it or are spelt
    nearly so, ranked together with the features that the text tower finds for it. MATCH says
    which: equal, start, part, close, or text. TEXT is the text activation over the best one's.
    """
    from sparse_encoder.feature_search.names import normalise_query

    normalise_query(query)  # no need to wait for a model to be told so
    opened = load_features(model)
    from serving.features.work import feature_list

    found = feature_list(opened.finder, opened.finder.search(query, limit=limit, cursor=cursor))
    if as_json:
        click.echo(found.model_dump_json())
        return
    rows = [
        [
            f.feature,
            f.name or "-",
            f.match,
            f"{f.text:.2f}",
            f"{100 * f.density:.1f}",
            f"{f.p99:.2f}",
        ]
        + [", ".join(f.runner_up)]
        for f in found.features
    ]
    _table(["feature", "name", "match", "text", "density %", "p99", "further names"], rows)
    if found.next_cursor is not None:
        left = f"{len(found.features)} of {found.total}; --cursor {found.next_cursor} has the next"
        click.echo(left, err=True)


@click.command()
@click.argument("feature", metavar="ID")
@json_option
@model_option
def show(feature: str, as_json: bool, model: str) -> None:
    """Print all that the atlas knows of feature ID (812 or #812), and the features most like it."""
    opened = load_features(model)
    from serving.features.work import feature_detail

    detail = feature_detail(opened.finder, feature.removeprefix("#"), opened.top_images)
    click.echo(detail.model_dump_json() if as_json else feature_sheet(detail, opened.atlas.names))


@click.command()
@click.option(
    "--on",
    multiple=True,
    required=True,
    metavar="PHOTO|FOLDER",
    help="Photographs that have it; again for more.",
)
@click.option(
    "--off",
    multiple=True,
    metavar="PHOTO|FOLDER",
    help="Photographs that do not; without any, the reference set stands in for them.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Features at most.",
)
@json_option
@model_option
def contrast(
    on: tuple[str, ...], off: tuple[str, ...], limit: int, as_json: bool, model: str
) -> None:
    """Print the features that are active on some photographs and not on others.

    ON and OFF are mean activations in multiples of each feature's p99, each photograph's cut at 1;
    features are ranked by their difference.
    """
    opened = load_features(model)
    from sparse_encoder.feature_search.contrast import contrast as find_contrast

    found = find_contrast(opened.atlas, opened.codes(on), opened.codes(off), limit=limit)
    names = opened.atlas.names
    if as_json:
        features = [{**asdict(c), "name": names[c.feature]} for c in found]
        click.echo(json.dumps({"fingerprint": opened.atlas.fingerprint, "features": features}))
        return
    rows = [
        [c.feature, names[c.feature] or "-", f"{c.contrast:.2f}", f"{c.on:.2f}", f"{c.off:.2f}"]
        + [f"{100 * c.share_on:.0f}", f"{100 * c.share_off:.0f}"]
        for c in found
    ]
    _table(["feature", "name", "contrast", "on", "off", "active on %", "active off %"], rows)


FIND_COMMANDS = (search, show, contrast)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their longest entry; numbers to the right. Nothing found: no lines."""
    if not rows:
        click.echo("no feature found", err=True)
        return
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *text]) for i in range(len(head))]
    right = [_is_number(text[0][i]) for i in range(len(head))]
    for row in [list(head), *text]:
        cells = (
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(row, widths, right, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).removeprefix("-").isdigit()
