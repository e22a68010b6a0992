"""``sparsight eval``: the numbers of the model card, made again."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from serving.cli.options import load_pipeline, model_option
from serving.cli.progress import StderrProgress, loading

if TYPE_CHECKING:
    from sparse_encoder.dataset import Sample
    from sparse_encoder.evaluation.evaluated import Evaluated
    from vlm.steering_evaluation.answer_book import Standing
    from vlm.steering_evaluation.sizes import SizeName

F = TypeVar("F", bound=Callable[..., Any])

# Shards below the folder of the data sets, by the start of their path.
CAPTION_SETS = ("flickr8k/val", "coco/val")
SUBJECT_SETS = tuple(
    f"zeroshot/{name}-test" for name in ("caltech101", "imagenet", "catsdogs", "grocery")
)
STEERING_SETS = (*CAPTION_SETS, "visual7w/val", *SUBJECT_SETS)


def _evaluation_options(command: F) -> F:
    for add in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table."),
        model_option,
        click.option(
            "--data",
            required=True,
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Folder with the data sets.",
        ),
    ):
        command = add(command)
    return command


@click.group("eval")
def evaluate() -> None:
    """Evaluate a model on held-out data."""


@evaluate.command()
@click.argument("named", metavar="[MODEL]", required=False)
@_evaluation_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.json and report.html, on everything that DATA allows to measure.",
)
@click.option(
    "--templates",
    multiple=True,
    type=click.Choice(["mini", "imagenet80"]),
    help="Sentences around class names: our six, or CLIP's 80 for ImageNet; again for both.  "
    "[default: mini; with --out both]",
)
@click.option(
    "--embedding",
    default="efficientnet-lite0",
    show_default=True,
    metavar="NAME|FOLDER",
    help="Judge of Clarity and MonoSemanticity with --out: a vision model of transformers, or "
    "trunk for the encoder's own.",
)
@click.option("--force", is_flag=True, help="Replace a report that is in --out.")
def encoder(
    named: str | None,
    data: Path,
    model: str,
    as_json: bool,
    out: Path | None,
    templates: tuple[str, ...],
    embedding: str,
    force: bool,
) -> None:
    """Retrieval, zero-shot classification and density of the codes.

    MODEL is a name or a folder, as for --model: a whole model, a trained encoder, or an exported
    sparse CLIP. With --out everything else is measured too: boxes, active and dead features,
    modality, Clarity and MonoSemanticity.
    """
    model = _one_model(named, model)
    if out is None:
        if len(templates) > 1:
            raise click.UsageError("two sets of --templates need --out; without it give one")
        _show(_evaluate(model, data, *(templates or ("mini",))), as_json)
    else:
        _show(_report(model, data, out, templates, embedding, force), as_json)


def _one_model(named: str | None, option: str) -> str:
    source = click.get_current_context().get_parameter_source("model")
    given = source is not None and source != click.core.ParameterSource.DEFAULT
    if named is not None and given and named != option:
        raise click.UsageError(f"MODEL is {named!r} but --model is {option!r}; give one of them")
    return named if named is not None else option


def _load_encoder(model: str) -> "Evaluated":
    with loading(model) as progress:
        from sparse_encoder.evaluation.evaluated import load_evaluated

        return load_evaluated(model, progress)


def _evaluate(model: str, data: Path, templates: str) -> Any:
    from sparse_encoder.evaluation.evaluate import evaluate_encoder

    return evaluate_encoder(_load_encoder(model), data, templates)


def _report(
    model: str, data: Path, out: Path, templates: tuple[str, ...], embedding: str, force: bool
) -> Any:
    from sparse_encoder.evaluation.html_page import report_files
    from sparse_encoder.evaluation.independent_embedding import load_embedding
    from sparse_encoder.evaluation.page import write_report
    from sparse_encoder.evaluation.report import measure_encoder
    from sparse_encoder.templates import TEMPLATE_SETS

    there = [str(path) for path in report_files(out) if path.exists()]
    if there and not force:
        raise click.UsageError(f"{there[0]} exists; --force replaces it")
    evaluated = _load_encoder(model)
    with StderrProgress() as progress:
        judge = load_embedding(embedding, progress)
    measures = measure_encoder(
        evaluated, data, templates=templates or tuple(TEMPLATE_SETS), embedding=judge
    )
    for path in write_report(measures, out, Path(model).name):
        click.echo(f"wrote {path}", err=True)
    return measures


@evaluate.command()
@_evaluation_options
def captions(data: Path, model: str, as_json: bool) -> None:
    """CIDEr and BLEU-4 of greedy captions against human ones."""
    from vlm.evaluate_captions import evaluate_captions

    pipeline = load_pipeline(model)
    for name in CAPTION_SETS:
        samples = _samples(data, name)
        found = evaluate_captions(pipeline, samples, set_name=name, on_progress=_progress)
        _show(found, as_json)


@evaluate.command()
@_evaluation_options
def subjects(data: Path, model: str, as_json: bool) -> None:
    """Share of images whose main subject is named right in one or two words."""
    from vlm.subject_eval import evaluate_subjects

    sets = {name: _samples(data, name) for name in SUBJECT_SETS}
    _show(evaluate_subjects(load_pipeline(model), sets, on_progress=_progress), as_json)


@evaluate.command()
@click.argument("named", metavar="[MODEL]", required=False)
@_evaluation_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.json, report.html, to_check.jsonl and answers.jsonl: everything is "
    "measured. A run that was stopped goes on where it was.",
)
@click.option(
    "--quick",
    "size",
    flag_value="quick",
    help="With --out: a few concepts in a quarter of an hour, not all in a night.",
)
@click.option(
    "--medium",
    "size",
    flag_value="medium",
    help="With --out: every photograph, and up to 24 concepts a task.",
)
@click.option("--seed", type=click.IntRange(0), help="With --out: of all draws.  [default: 0]")
@click.option("--force", is_flag=True, help="Replace a report that is in --out; keeps its answers.")
@click.option(
    "--k", type=click.IntRange(1, 16), help="Without --out: features a concept.  [default: 16]"
)
@click.option(
    "--dose",
    type=click.FloatRange(0, 8, min_open=True),
    help="Without --out: of the clamp, in multiples of each feature's 99th percentile.  "
    "[default: 1]",
)
@click.option(
    "--controls",
    type=click.IntRange(0),
    help="Draws of random features like the real ones.  [default: 5; with --quick 1, with --medium 2]",
)
@click.option(
    "--images",
    type=click.IntRange(1),
    help="At most so many a pair; with --out of each cell of the paper's grid and each kind of "
    "several edits.  [default: all; with --out 100, with --quick 4, with --medium 20]",
)
def steering(
    named: str | None,
    data: Path,
    model: str,
    as_json: bool,
    out: Path | None,
    size: "SizeName | None",
    seed: int | None,
    force: bool,
    k: int | None,
    dose: float | None,
    controls: int | None,
    images: int | None,
) -> None:
    """Whether edits do what they ask for, what else they do, and what other ways would do.

    Without --out: a table of eight fixed pairs, replacement only. With --out: the paper's protocol,
    insertion, suppression and replacement over all labels and common nouns, side effects, baselines,
    several edits at once, and edits of one half of a picture.
    """
    model = _one_model(named, model)
    if out is None:
        if size or force or seed is not None:
            raise click.UsageError("--quick, --medium, --seed and --force need --out")
        _show(_fixed_pairs(model, data, k or 16, dose or 1.0, controls, images), as_json)
    else:
        if k is not None or dose is not None:
            raise click.UsageError(
                "--k and --dose are chosen by measurement with --out; leave them"
            )
        _show(
            _steering_report(model, data, out, size or "full", seed, force, controls, images),
            as_json,
        )


def _fixed_pairs(
    model: str, data: Path, k: int, dose: float, controls: int | None, images: int | None
) -> Any:
    from vlm.fluency import Fluency
    from vlm.steering_evaluation.fixed_pairs import (
        N_CONTROL_DRAWS,
        SteeringSettings,
        evaluate_steering,
    )

    samples = [sample for name in STEERING_SETS for sample in _samples(data, name)]
    pipeline = load_pipeline(model)
    draws = N_CONTROL_DRAWS if controls is None else controls
    settings = SteeringSettings(k=k, dose=dose, n_control_draws=draws, max_eligible=images)
    return evaluate_steering(
        pipeline, samples, settings=settings, nll=Fluency(pipeline), on_progress=_progress
    )


def _steering_report(
    model: str,
    data: Path,
    out: Path,
    size: "SizeName",
    seed: int | None,
    force: bool,
    controls: int | None,
    images: int | None,
) -> Any:
    from sparse_encoder.evaluation.html_page import report_files
    from vlm.steering_evaluation.measure import measure_steering
    from vlm.steering_evaluation.page import write_steering_report
    from vlm.steering_evaluation.sbert import Sbert, load_sbert
    from vlm.steering_evaluation.sizes import sizes

    there = [str(path) for path in report_files(out) if path.exists()]
    if there and not force:
        raise click.UsageError(f"{there[0]} exists; --force replaces it")
    chosen = sizes(size, images=images, control_draws=controls, seed=seed)
    sets = {name: _samples(data, name) for name in STEERING_SETS}
    pipeline = load_pipeline(model)
    with StderrProgress() as progress:
        sbert = Sbert(load_sbert(progress))
    report = measure_steering(pipeline, sets, data, out, chosen, sbert, _standing)
    for path in write_steering_report(report, out, pipeline.name):
        click.echo(f"wrote {path}", err=True)
    return report


def _standing(now: "Standing") -> None:
    """One line for each stage, written over while it lasts on a terminal."""
    left = "" if now.seconds_left is None else f", about {_span(now.seconds_left)} left"
    whole = f"; all: {now.all_done:,}/{now.all_of:,}{left}" if now.all_of else ""
    last = now.done == now.of
    if last or sys.stderr.isatty():
        line = f"{now.stage}: {now.done:,}/{now.of:,}{whole}"
        click.echo(f"\r{line:<90}" if sys.stderr.isatty() else line, nl=last, err=True)


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def _samples(data: Path, name: str) -> "list[Sample]":
    from sparse_encoder.dataset import find_shards, read_samples

    return list(read_samples(find_shards(data, f"{name}*.tar")))


def _progress(stage: str, done: int, total: int) -> None:
    click.echo(f"\r{stage}: {done}/{total}", nl=done == total, err=True)


def _show(evaluation: Any, as_json: bool) -> None:
    click.echo(json.dumps(evaluation.to_json()) if as_json else evaluation.table())
