"""``sparsight steering sweep``: one photograph, one concept, several doses."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli.options import load_pipeline, model_option
from serving.cli.progress import StderrProgress
from serving.cli.steering_options import doses_option

if TYPE_CHECKING:
    from vlm.sweep import Sweep, SweepPoint


@click.command()
@click.argument("photo", metavar="PHOTO")
@click.option("--concept", metavar="TEXT", help="The concept to clamp.")
@click.option("--feature", type=int, metavar="INDEX", help="A feature to clamp instead.")
@doses_option(
    "0,0.25,0.5,0.75,1,1.5,2,4,8", "From 0, which takes the concept out, to 8; at most 15."
)
@click.option(
    "--k", type=click.IntRange(1, 16), help="Features that the concept becomes.  [default: 16]"
)
@click.option("--prompt", metavar="TEXT", help="What to ask.  [default: a one-sentence caption]")
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 512),
    default=64,
    show_default=True,
    help="Longest answer, in tokens.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PLOT.svg",
    help="Also a plot with the answer at each dose.",
)
@click.option("--force", is_flag=True, help="Write over --out if it is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, as the API gives it.")
@model_option
def sweep(
    photo: str,
    concept: str | None,
    feature: int | None,
    doses: tuple[float, ...] | None,
    k: int | None,
    prompt: str | None,
    max_tokens: int,
    out: Path | None,
    force: bool,
    as_json: bool,
    model: str,
) -> None:
    """Print what a photograph's caption becomes as a concept is clamped at higher and higher doses.

    PHOTO may be - for standard input. A line for each dose: a + where the caption names the concept,
    how like the concept it is (cosine in the text trunk), and the caption.
    """
    if out is not None and out.exists() and not force:
        raise click.UsageError(f"{out} exists; --force writes over it")
    from sparse_encoder.image import decode_image, open_image
    from sparse_encoder.whole_file import write_whole
    from vlm.pipeline import DEFAULT_PROMPT
    from vlm.sweep import SWEEP_DOSES
    from vlm.sweep import sweep as sweep_photo
    from vlm.sweep_plot import sweep_svg

    image = decode_image(sys.stdin.buffer.read()) if photo == "-" else open_image(photo)
    pipeline = load_pipeline(model)
    with StderrProgress() as told:
        told(f"{len(doses or SWEEP_DOSES)} doses", None)
        found = sweep_photo(
            pipeline,
            image,
            concept=concept,
            feature=feature,
            doses=doses or SWEEP_DOSES,
            k=k,
            prompt=prompt or DEFAULT_PROMPT,
            max_tokens=max_tokens,
        )
    if out is not None:
        write_whole(out, sweep_svg(found).encode())
        click.echo(f"wrote {out}", err=True)
    if as_json:
        from serving.steering.work import sweep_result

        click.echo(sweep_result(found, pipeline.name, pipeline.fingerprint).model_dump_json())
        return
    _print(found)


def _print(found: "Sweep") -> None:
    for point in (found.unsteered, *found.points):
        click.echo(_line(point))
    for point in found.points:
        # A high dose has a warning for each feature; all of them are in the receipts.
        warnings = point.answer.receipt.warnings if point.answer.receipt else ()
        if warnings:  # the last first: those of calibrated doses come last
            more = f" ({len(warnings) - 1} more; --json has them)" if warnings[1:] else ""
            click.echo(f"Warning: {point.dose:g} p99: {warnings[-1]}{more}", err=True)
    if found.curve is not None:
        effective, safe = (
            "none" if dose is None else f"{dose:g} p99"
            for dose in (found.curve.effective, found.curve.safe_max)
        )
        click.echo(f"calibrated: effective {effective}, safe_max {safe}", err=True)


def _line(point: "SweepPoint") -> str:
    dose = "unsteered" if point.dose is None else f"{point.dose:g}"
    like = "     " if point.likeness is None else f"{point.likeness:5.2f}"
    mark = "+" if point.says else " "
    return f"{dose:>9} {mark} {like}  {' '.join(point.answer.text.split())}"
