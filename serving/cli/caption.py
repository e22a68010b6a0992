"""``sparsight caption``: one line a photograph, for one photograph or a million."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from serving.cli.caption_options import (
    Asked,
    output_options,
    pace_options,
    place_options,
    refuse_misuse,
    source_options,
    wish_options,
)
from serving.cli.caption_place import Place, open_place
from serving.cli.options import model_option

if TYPE_CHECKING:
    from serving.batch.journal import Journal
    from serving.batch.plan import Plan, Steering, Tags
    from serving.batch.result import Result
    from serving.batch.sinks import Sink
    from serving.batch.sources import Source


@click.command()
@click.argument("photos", nargs=-1, metavar="PHOTO|FOLDER...")
@source_options
@wish_options
@output_options
@pace_options
@place_options
@model_option
@click.pass_context
def caption(ctx: click.Context, /, photos: tuple[str, ...], **options: Any) -> None:
    """Print a caption for each photograph, in the order given; folders in order of name.

    PHOTO may be a glob, a web address, an address that fsspec knows, a zip or tar (webdataset
    shards), a CSV or parquet, or - for standard input. A bad photograph leaves an empty line (with
    --json an object with "error") and its reason on standard error; the rest go on, and the exit
    code is 1.
    """
    asked = Asked(**options)
    refuse_misuse(photos, asked)
    named = ctx.get_parameter_source("model") is not ParameterSource.DEFAULT
    if asked.api and named:
        raise click.UsageError("--model: the gateways of --api have their own; leave it out")
    from serving.batch.progress import with_progress
    from serving.batch.sources import open_sources

    sources = open_sources(photos, lists=asked.lists, column=asked.column, root=asked.root)
    counts = [source.count() for source in sources]  # refuses what makes no sense, before a model
    n_failed = n_duplicates = n_done = 0
    said: set[str] = set()
    with ExitStack() as opened:
        results, n_before = _open(sources, asked, opened)
        for result in with_progress(results, _n_left(counts, n_before, asked)):
            n_failed += result.error is not None
            n_done += result.error is None
            n_duplicates += result.duplicate_of is not None
            _report(result, asked, said)
    if asked.out is not None:
        same = f" ({n_duplicates:,} the same as others)" if n_duplicates else ""
        click.echo(f"{n_done:,} done{same}, {n_failed:,} failed; {asked.out}", err=True)
    if n_failed:
        ctx.exit(1)


def _open(
    sources: "list[Source]", asked: Asked, opened: ExitStack
) -> "tuple[Iterator[Result], int]":
    """The results of what is left to do, and how many were there before."""
    from serving.batch.journal import Journal
    from serving.batch.run import Pace, explain_failures, run
    from serving.batch.sinks.sidecar import Sidecars

    if not any(source.has_any() for source in sources):
        return explain_failures(sources), 0  # no need to wait for a model to be told so
    tags = _tags(asked)
    place = open_place(asked, opened)
    plan = _plan(asked, place, tags)
    journal, sinks, n_before = None, [], 0
    made_up: Iterator[Result] = iter(())
    if asked.out is not None:
        journal = opened.enter_context(Journal(asked.out, plan, overwrite=asked.force))
        sinks = _sinks(asked, plan, journal, opened)
        sidecars = [sink for sink in sinks if isinstance(sink, Sidecars)]
        made_up = chain.from_iterable([sink.make_up(journal) for sink in sidecars])
        n_before = journal.n_done
        if n_before:
            click.echo(
                f"{asked.out} has {n_before:,} captions already; going on from there", err=True
            )
    pace = Pace(asked.batch_size, 0, asked.shard, asked.retry_failed)
    results = run(sources, plan, place.engine, journal=journal, sinks=sinks, pace=pace)
    return chain(made_up, results), n_before


def _tags(asked: Asked) -> "Tags | None":
    """Of --schema. Raises SparsightError for a file that is none, before a model is loaded."""
    from serving.batch.plan import SCHEMA_PROMPT, Tags
    from sparse_encoder.errors import SparsightError

    if asked.schema is None:
        return None
    try:
        schema = json.loads(Path(asked.schema).read_bytes())
    except OSError as error:
        why = error.strerror or error
        raise SparsightError(
            f"the schema {asked.schema} cannot be read: {why}", param="schema"
        ) from None
    except ValueError as error:
        raise SparsightError(
            f"the schema {asked.schema} is no JSON: {error}", param="schema"
        ) from None
    return Tags.of(schema, asked.schema_prompt or SCHEMA_PROMPT)


def _plan(asked: Asked, place: Place, tags: "Tags | None") -> "Plan":
    from serving.batch.plan import PLAIN, Plan
    from vlm.pipeline import DEFAULT_PROMPT

    base, more = _steerings(asked, place)
    steered = more or ([base] if base.edits or base.steer_from else [])
    return Plan(
        fingerprint=place.fingerprint,
        prompts=(asked.prompt or (DEFAULT_PROMPT,)) if asked.caption else (),
        steerings=tuple([PLAIN, *steered] if asked.plain or not steered else steered),
        max_tokens=asked.max_tokens,
        codes=asked.codes,
        embedding=asked.embedding,
        tags=tags,
    )


def _steerings(asked: Asked, place: Place) -> "tuple[Steering, list[Steering]]":
    """What --steer and --steer-from ask for, and that with each dose of a sweep and each recipe."""
    from dataclasses import replace

    from serving.batch.plan import Steering, sweep
    from vlm.edits import parse_edits
    from vlm.recipe_file import read_recipe_file

    def steering(name: str, *more: dict[str, Any]) -> Steering:
        wanted = {"edits": [*asked.steer, *more]}
        n = place.n_features
        edits = parse_edits(wanted, n_images=1, n_features=n, param="steer")
        return Steering(name, edits, steer_from=place.steer_from)

    base = steering("steer")
    found = [steering(name, edit) for text in asked.sweep for name, edit in sweep(text)]
    for path in asked.recipe:
        recipe = read_recipe_file(path)
        # Refused here already, before the first photograph, where it is another model's.
        recipe.edits_for(
            place.fingerprint,
            place.n_features,
            resolve_again=asked.resolve_again,
            param=path,
        )
        found.append(
            replace(base, name=recipe.name, recipe=recipe, resolve_again=asked.resolve_again)
        )
    return base, found


def _sinks(asked: Asked, plan: "Plan", journal: "Journal", opened: ExitStack) -> "list[Sink]":
    sinks: list[Sink] = []
    if asked.parquet is not None:
        from serving.batch.sinks.parquet import ParquetParts

        sinks.append(ParquetParts(asked.parquet, plan, journal, overwrite=asked.force))
    if asked.webdataset is not None:
        from serving.batch.sinks.shards import WebdatasetShards

        sinks.append(WebdatasetShards(asked.webdataset, journal, overwrite=asked.force))
    for kind in asked.sidecar:
        from serving.batch.sinks.sidecar import Sidecars

        sinks.append(Sidecars(kind, overwrite=asked.force))
    for sink in sinks:
        opened.callback(sink.close)
    return sinks


def _n_left(counts: Iterable[int | None], n_before: int, asked: Asked) -> int | None:
    """Photographs to come, for the time left; None where nobody knows."""
    known = [count for count in counts if count is not None]
    n = sum(known) // asked.shard[1] - n_before
    return n if len(known) == len(list(counts)) and n >= 0 else None


def _report(result: "Result", asked: Asked, said: set[str]) -> None:
    """A result's line, warning (once each) and error."""
    for warning in [word for word in result.warnings if word not in said]:
        said.add(warning)
        click.echo(f"Warning: {warning}", err=True)
    if result.error is not None:
        click.echo(f"Error: {result.path}: {result.error}", err=True)
    if asked.out is None:
        line = "\t".join(" ".join(each.split()) for each in result.captions)
        click.echo(json.dumps(result.to_json()) if asked.as_json else line)
