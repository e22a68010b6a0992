"""``sparsight steering recipe``: edits under a name, in a file."""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from serving.cli.options import model_option, read_steer_from, steer_options
from serving.cli.progress import loading

if TYPE_CHECKING:
    from vlm.concepts import ResolvedEdit
    from vlm.make_recipe import Maker
    from vlm.recipe import Recipe


@click.group()
def recipe() -> None:
    """Write, show and check recipes: JSON files with name, description, fingerprint and edits."""


@recipe.command()
@click.argument("file", metavar="FILE.json")
@click.option("--name", required=True, help="Name of the recipe, in receipts and on the page.")
@click.option("--description", default="", help="A line about what it is for.")
@steer_options
@click.option("--recipe", "other", metavar="FILE.json", help="Also the edits of this recipe.")
@click.option(
    "--photo", metavar="PHOTO", help="With --steer-from: the photograph that lacks the features."
)
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@model_option
def save(
    file: str,
    name: str,
    description: str,
    steer: tuple[dict[str, Any], ...],
    resolve_again: bool,
    steer_from: str | None,
    top: int,
    other: str | None,
    photo: str | None,
    force: bool,
    model: str,
) -> None:
    """Write edits into FILE, each tried on the model first; - writes to standard output."""
    if not (steer or other or steer_from):
        raise click.UsageError("nothing to save: give --steer, --recipe or --steer-from")
    if (steer_from is None) != (photo is None):
        raise click.UsageError("--steer-from and --photo go together: one has what the other lacks")
    if resolve_again and other is None:
        raise click.UsageError("--resolve-again goes with --recipe")
    if file != "-" and not force and os.path.exists(file):
        raise click.UsageError(f"{file} is there already; give --force to write over it")
    from sparse_encoder.image import open_image
    from vlm.recipe_file import recipe_to_bytes, write_recipe_file

    source = None if other is None else _read(other)
    maker = _open(model)
    found = maker.resolved(
        photo=None if photo is None else open_image(photo),
        edits=_edits(steer, maker),
        recipe=source,
        resolve_again=resolve_again,
        steer_from=None if steer_from is None else read_steer_from(steer_from, top),
    )
    made = maker.recipe(name, description, found)
    if file == "-":
        click.echo(recipe_to_bytes(made), nl=False)
        return
    write_recipe_file(file, made)
    click.echo(f"{file}: {len(made.edits)} edits for model {made.fingerprint[:12]}", err=True)


@recipe.command()
@click.argument("file", metavar="FILE.json")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def show(file: str, as_json: bool) -> None:
    """Print what is in FILE, edits in shorthand; no model is needed. - is standard input."""
    from vlm.shorthand import write_shorthand

    found = _read(file)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    click.echo(f"name         {found.name}")
    click.echo(f"description  {' '.join(found.description.split())}")
    click.echo(f"fingerprint  {found.fingerprint}")
    for edit in found.edits:
        click.echo(f"edit         {write_shorthand(edit.to_json())}")


@recipe.command()
@click.argument("file", metavar="FILE.json")
@click.option(
    "--resolve-again",
    is_flag=True,
    help="Take a recipe that was made for another model by its concepts.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@model_option
def check(file: str, resolve_again: bool, as_json: bool, model: str) -> None:
    """Say whether the model takes the recipe in FILE, and which features each edit becomes.

    Exit code 0: it does. 1: it does not, with the reason on standard error.
    """
    source = _read(file)
    maker = _open(model)
    found = maker.resolved(recipe=source, resolve_again=resolve_again)
    if as_json:
        edits = [_resolved_json(item) for item in found]
        click.echo(json.dumps({"fingerprint": maker.atlas.fingerprint, "edits": edits}))
        return
    from vlm.shorthand import write_shorthand

    for item in found:
        pairs = zip(item.features, item.names, strict=True)
        named = ", ".join(f"#{feature} {name}".rstrip() for feature, name in pairs)
        click.echo(f"{write_shorthand(item.edit.to_json())}\t{named}")


def _read(file: str) -> "Recipe":
    from vlm.recipe_file import read_recipe_file, recipe_from_bytes

    if file == "-":
        return recipe_from_bytes(sys.stdin.buffer.read(), "standard input")
    return read_recipe_file(file)


def _open(model: str) -> "Maker":
    with loading(model) as progress:
        from serving.features.opened import open_features
        from vlm.make_recipe import Maker

        opened = open_features(model, progress)
    encoder = opened.encoder
    return Maker(opened.atlas, encoder.encode_texts, lambda photo: encoder.encode_images([photo]))


def _edits(steer: tuple[dict[str, Any], ...], maker: "Maker") -> Any:
    from vlm.edits import parse_edits

    n = maker.atlas.n_features
    return parse_edits({"edits": list(steer)}, n_images=1, n_features=n, param="steer")


def _resolved_json(item: "ResolvedEdit") -> dict[str, Any]:
    return {
        "edit": item.edit.to_json(),
        "features": [
            {"feature": feature, "name": name, "raw": raw, "p99": p99}
            for feature, name, raw, p99 in zip(
                item.features, item.names, item.raw_values, item.p99_values, strict=True
            )
        ],
    }
