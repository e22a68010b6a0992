"""``sparsight caption``: one line a photograph."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from serving.cli.options import load_pipeline, model_option, read_edits

if TYPE_CHECKING:
    from vlm.captioning import Captioned


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO|FOLDER...")
@click.option(
    "--steer",
    multiple=True,
    callback=read_edits,
    metavar="EDIT",
    help="Edit of the code, may be repeated: dog=0 removes, cat=1 sets to 1 p99 (the concept's 99th "
    "percentile; at most 8), cat=1.2raw in raw units, cat*1.5 scales, cat+0.4 adds, #812=1 names a "
    "feature, cat=1@0,0,0.5,1 keeps to a region x0,y0,x1,y1 in fractions of the image.",
)
@click.option("--prompt", metavar="TEXT", help="What to ask.  [default: a one-sentence caption]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    metavar="FILE.jsonl",
    help="Append JSON lines to this file instead; photographs that it holds already are skipped.",
)
@click.option("--force", is_flag=True, help="Start --out anew, whatever it holds.")
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 512),
    default=64,
    show_default=True,
    help="Longest caption, in tokens.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Photographs captioned at once.",
)
@model_option
@click.pass_context
def caption(
    ctx: click.Context,
    photos: tuple[str, ...],
    steer: tuple[dict[str, Any], ...],
    prompt: str | None,
    as_json: bool,
    out: str | None,
    force: bool,
    max_tokens: int,
    batch_size: int,
    model: str,
) -> None:
    """Print a caption for each photograph, in the order given; folders in order of name.

    PHOTO may be - for standard input. A bad photograph leaves an empty line (with --json an object
    with "error") and its reason on standard error; the rest go on, and the exit code is 1.
    """
    if force and out is None:
        raise click.UsageError("--force needs --out")
    from vlm.captioning import count_photos, explain_unreadable

    n_photos, n_readable = count_photos(photos)
    if n_readable:
        results = _captions(photos, steer, prompt, out, force, max_tokens, batch_size, model)
    else:  # no need to wait for a model to be told so
        results = explain_unreadable(photos)
    n_failed = 0
    said: set[str] = set()
    for result in _with_bar(results, n_photos):
        n_failed += result.error is not None
        for warning in [w for w in (result.receipt or {}).get("warnings", ()) if w not in said]:
            said.add(warning)
            click.echo(f"Warning: {warning}", err=True)
        if result.error is not None:
            click.echo(f"Error: {result.path}: {result.error}", err=True)
        if out is None:
            line = " ".join((result.caption or "").split())
            click.echo(json.dumps(result.to_json()) if as_json else line)
    if n_failed:
        ctx.exit(1)


def _captions(
    photos: tuple[str, ...],
    steer: tuple[dict[str, Any], ...],
    prompt: str | None,
    out: str | None,
    force: bool,
    max_tokens: int,
    batch_size: int,
    model: str,
) -> "Iterator[Captioned]":
    """The results of what is left to do."""
    from vlm.caption_log import CaptionLog
    from vlm.captioning import Recipe, caption_photos, find_photos
    from vlm.edits import parse_edits
    from vlm.pipeline import DEFAULT_PROMPT

    pipeline = load_pipeline(model)
    edits = parse_edits(
        {"edits": list(steer)}, n_images=1, n_features=pipeline.n_features, param="steer"
    )
    recipe = Recipe(
        pipeline.fingerprint, DEFAULT_PROMPT if prompt is None else prompt, edits, max_tokens
    )
    if out is None:
        return caption_photos(pipeline, find_photos(photos), recipe, batch_size=batch_size)
    log = CaptionLog(out, recipe, overwrite=force)
    if log.done:
        click.echo(f"{out} has {len(log.done):,} captions already; going on from there", err=True)
    todo = (path for path in find_photos(photos) if path not in log.done)
    return log.record(caption_photos(pipeline, todo, recipe, batch_size=batch_size))


def _with_bar(results: "Iterable[Captioned]", n_photos: int) -> "Iterator[Captioned]":
    """The results, with a progress bar on standard error where that is a terminal."""
    from tqdm import tqdm

    bar = tqdm(total=n_photos, unit="photo", disable=True if n_photos < 2 else None)
    with bar:
        for result in results:
            with tqdm.external_write_mode():  # or lines and bar would share a row of the terminal
                yield result
            bar.update()
