"""``sparsight eval``: the numbers of the model card, made again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from serving.cli.options import load_pipeline, model_option

if TYPE_CHECKING:
    from sparse_encoder.dataset import Sample

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
@_evaluation_options
def encoder(data: Path, model: str, as_json: bool) -> None:
    """Retrieval, zero-shot classification and density of the codes."""
    from sparse_encoder.evaluate import evaluate_encoder

    _show(evaluate_encoder(load_pipeline(model).encoder, data), as_json)


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
@_evaluation_options
@click.option(
    "--k", default=16, show_default=True, type=click.IntRange(1, 16), help="Features a concept."
)
@click.option(
    "--dose",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 8, min_open=True),
    help="Of the clamp, in multiples of each feature's 99th percentile.",
)
@click.option(
    "--controls", default=5, show_default=True, help="Draws of random features like the real ones."
)
@click.option("--images", type=click.IntRange(1), help="At most so many a pair.  [default: all]")
def steering(
    data: Path,
    model: str,
    as_json: bool,
    k: int,
    dose: float,
    controls: int,
    images: int | None,
) -> None:
    """Whether replacing a concept in the code replaces it in the caption, and nothing breaks."""
    from vlm.fluency import Fluency
    from vlm.steering_eval import SteeringSettings, evaluate_steering

    samples = [sample for name in STEERING_SETS for sample in _samples(data, name)]
    pipeline = load_pipeline(model)
    settings = SteeringSettings(k=k, dose=dose, n_control_draws=controls, max_eligible=images)
    _show(
        evaluate_steering(
            pipeline,
            samples,
            settings=settings,
            nll=Fluency(pipeline),
            on_progress=_progress,
        ),
        as_json,
    )


def _samples(data: Path, name: str) -> "list[Sample]":
    from sparse_encoder.dataset import find_shards, read_samples

    return list(read_samples(find_shards(data, f"{name}*.tar")))


def _progress(stage: str, done: int, total: int) -> None:
    click.echo(f"\r{stage}: {done}/{total}", nl=done == total, err=True)


def _show(evaluation: Any, as_json: bool) -> None:
    click.echo(json.dumps(evaluation.to_json()) if as_json else evaluation.table())
