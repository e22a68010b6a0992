"""The options of ``sparsight caption``, and what is refused on sight of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import click

from serving.cli.options import steer_options

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Asked:
    """The options, as click gives them."""

    lists: tuple[str, ...]
    column: str | None
    root: str
    steer: tuple[dict[str, Any], ...]
    resolve_again: bool
    steer_from: str | None
    top: int
    sweep: tuple[str, ...]
    recipe: tuple[str, ...]
    plain: bool
    prompt: tuple[str, ...]
    caption: bool
    codes: bool
    embedding: Literal["dense", "sparse"] | None
    schema: str | None
    schema_prompt: str | None
    as_json: bool
    out: str | None
    force: bool
    parquet: str | None
    webdataset: str | None
    sidecar: tuple[Literal["txt", "xmp"], ...]
    retry_failed: bool
    shard: tuple[int, int]
    max_tokens: int
    batch_size: int
    workers: int | None
    engine: Literal["local", "ray"]
    ray_address: str | None
    ray_encoders: int | None
    ray_llms: int | None
    ray_llm_gpus: float | None
    api: tuple[str, ...]
    model: str


def _read_shard(_: click.Context, param: click.Parameter, text: str) -> tuple[int, int]:
    first, _slash, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise click.BadParameter(f"{text!r} is no I/N with I from 1 to N", param=param)


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


source_options = _options(
    click.option(
        "--list",
        "lists",
        multiple=True,
        metavar="FILE",
        help="Text file with one path or address a line, - for standard input; may be repeated.",
    ),
    click.option(
        "--column",
        metavar="NAME",
        help="Of CSV and parquet: the column with paths, addresses or bytes.  [default: the one "
        "with a usual name, such as path, url or image]",
    ),
    click.option(
        "--root",
        default="",
        metavar="FOLDER",
        help="Where relative paths in lists and tables start.  [default: the working folder]",
    ),
)
wish_options = _options(
    steer_options,
    click.option(
        "--sweep",
        multiple=True,
        metavar="EDITS",
        help="An edit with several doses, such as cat=0,0.5,1: a caption for each, on top of "
        "--steer; may be repeated.",
    ),
    click.option(
        "--recipe",
        multiple=True,
        metavar="FILE.json",
        help="The edits of this recipe, on top of --steer; a caption for each, where repeated.",
    ),
    click.option("--plain", is_flag=True, help="With steered captions: an unsteered one too."),
    click.option(
        "--prompt",
        multiple=True,
        metavar="TEXT",
        help="What to ask; a caption for each, where repeated.  [default: a one-sentence caption]",
    ),
    click.option("--caption/--no-caption", default=True, help="Captions, or only what follows."),
    click.option("--codes", is_flag=True, help="Also the photograph's features and activations."),
    click.option(
        "--embedding",
        type=click.Choice(["dense", "sparse"]),
        help="Also the code as a unit vector, to search with.",
    ),
    click.option(
        "--schema",
        metavar="FILE.json",
        help="Also an answer that is JSON of this JSON schema, as tags; it may be 256 tokens long.",
    ),
    click.option(
        "--schema-prompt",
        metavar="TEXT",
        help='What is asked for it.  [default: "List what is in the image."]',
    ),
)
output_options = _options(
    click.option(
        "--json", "as_json", is_flag=True, help="One JSON object a line on standard output."
    ),
    click.option(
        "--out",
        type=click.Path(dir_okay=False),
        metavar="FILE.jsonl",
        help="Append JSON lines to this file instead; photographs that it holds already are "
        "skipped, and of photographs with equal bytes one is captioned.",
    ),
    click.option(
        "--force",
        is_flag=True,
        help="Start --out and what is made from it anew, whatever is there.",
    ),
    click.option("--parquet", metavar="FOLDER", help="With --out: the results as parquet, too."),
    click.option(
        "--webdataset", metavar="FOLDER", help="With --out: photographs and results as shards, too."
    ),
    click.option(
        "--sidecar",
        multiple=True,
        type=click.Choice(["txt", "xmp"]),
        help="With --out: also a file beside each photograph; may be repeated.",
    ),
    click.option(
        "--retry-failed/--skip-failed",
        default=True,
        help="Whether photographs that failed in an earlier run are tried again.  [default: retry]",
    ),
)
pace_options = _options(
    click.option(
        "--shard",
        default="1/1",
        callback=_read_shard,
        metavar="I/N",
        help="Caption the I-th of N parts of the photographs, each run with an --out of its own.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(1, 512),
        default=64,
        show_default=True,
        help="Longest caption, in tokens.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 64),
        default=8,
        show_default=True,
        help="Photographs captioned at once; with --api, requests open at each gateway.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(0, 64),
        help="Processes that read and decode ahead of the model.  [default: one fewer than there "
        "are cores, at most 4]",
    ),
)


place_options = _options(
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where the model runs: in this process, or as actors of a Ray cluster (the extra "
        "sparsight[ray]).",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="Of a cluster that is there, such as auto or ray://HOST:10001.  [default: "
        "$RAY_ADDRESS, else a cluster on this machine for as long as the run]",
    ),
    click.option(
        "--ray-encoders",
        type=click.IntRange(1, 4096),
        help="Actors with the encoder, which computes on CPUs.  [default: 1]",
    ),
    click.option(
        "--ray-llms",
        type=click.IntRange(1, 4096),
        help="Actors with the language model.  [default: 1]",
    ),
    click.option(
        "--ray-llm-gpus",
        type=click.FloatRange(0, 1),
        help="GPUs of each language model: 1, or a part such as 0.25 where several share one.  "
        "[default: 0]",
    ),
    click.option(
        "--api",
        multiple=True,
        metavar="URL",
        help="Ask this running gateway instead of loading a model; repeated, whichever is free. An "
        "API key is taken from $SPARSIGHT_API_KEY.",
    ),
)


def refuse_misuse(photos: tuple[str, ...], asked: Asked) -> None:
    """Combinations that are plain from the command line alone."""
    if not photos and not asked.lists:
        raise click.UsageError("name a PHOTO or FOLDER, or a --list of them")
    if "-" in photos and "-" in asked.lists:
        raise click.UsageError("standard input is either a photograph or a list")
    _refuse_misplaced(asked)
    if asked.schema_prompt is not None and asked.schema is None:
        raise click.UsageError("--schema-prompt goes with --schema")
    if asked.out is None:
        needs = {
            "--force": asked.force,
            "--parquet": asked.parquet,
            "--webdataset": asked.webdataset,
            "--sidecar": asked.sidecar,
        }
        for name in (name for name, given in needs.items() if given):
            raise click.UsageError(f"{name} needs --out, the file that remembers what is done")
    steered = asked.steer or asked.sweep or asked.recipe or asked.steer_from
    if not asked.caption and (asked.prompt or (steered and asked.schema is None)):
        raise click.UsageError("--no-caption leaves nothing to steer or to ask")
    if not asked.caption and ("txt" in asked.sidecar or (asked.sidecar and not asked.schema)):
        raise click.UsageError("--no-caption leaves nothing to write into a sidecar")
    if asked.plain and not steered:
        raise click.UsageError("--plain goes with --steer, --sweep, --recipe or --steer-from")
    if asked.resolve_again and not asked.recipe:
        raise click.UsageError("--resolve-again goes with --recipe")
    more = asked.codes or asked.embedding or asked.schema
    if more and asked.out is None and not asked.as_json:
        raise click.UsageError("--codes, --embedding and --schema need --json or --out")


def _refuse_misplaced(asked: Asked) -> None:
    """Options of one place to run with another."""
    of_ray = {
        "--ray-address": asked.ray_address,
        "--ray-encoders": asked.ray_encoders,
        "--ray-llms": asked.ray_llms,
        "--ray-llm-gpus": asked.ray_llm_gpus,
    }
    if asked.api and asked.engine == "ray":
        raise click.UsageError("--api asks gateways, --engine ray a cluster; take one of them")
    if asked.engine != "ray":
        for name in (name for name, given in of_ray.items() if given is not None):
            raise click.UsageError(f"{name} goes with --engine ray")
    if asked.workers is not None and (asked.api or asked.engine == "ray"):
        raise click.UsageError("--workers are this machine's; the others decode for themselves")
