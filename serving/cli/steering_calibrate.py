"""``sparsight steering calibrate``: which doses work, and which are safe."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli.options import load_pipeline
from serving.cli.steering_options import doses_option

if TYPE_CHECKING:
    from vlm.dose_target import DoseTarget
    from vlm.pipeline import Pipeline

# Held-out photographs, by the start of their shards' path below DATA.
POOL_SETS = ("flickr8k/val", "coco/val", "zeroshot/")
LABELLED_SETS = ("zeroshot/",)
DEFAULT_FEATURES = 256


@click.command()
@click.argument("model", default="sparsight-mini", metavar="[MODEL]")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the data sets: held-out photographs to steer, labels to steer towards.",
)
@click.option(
    "--concepts",
    metavar="LIST",
    help="Concepts, with commas between them.  [default: the labels of DATA; none with --features "
    "or --feature]",
)
@click.option(
    "--features",
    type=click.IntRange(1),
    metavar="N",
    help="So many named features, drawn by --seed, those with a verified name first.  [default: "
    "256; none with --concepts or --feature]",
)
@click.option(
    "--feature", multiple=True, type=int, metavar="INDEX", help="This feature; may be repeated."
)
@click.option(
    "--k", type=click.IntRange(1, 16), default=16, show_default=True, help="Features a concept."
)
@doses_option("0.25,0.5,0.75,1,1.5,2,4,8", "Above 0, at most 8.")
@click.option(
    "--images",
    type=click.IntRange(1),
    default=36,
    show_default=True,
    help="Photographs a dose; four times as many are captioned unsteered, to choose from.",
)
@click.option(
    "--success",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.75,
    show_default=True,
    help="Share of photographs that the effective dose has to reach; may be changed later.",
)
@click.option(
    "--corruption",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.15,
    show_default=True,
    help="Corruption that a safe dose stays within, by the upper end of its 95 % interval; likewise.",
)
@click.option("--seed", default=0, show_default=True, help="Of the features that are drawn.")
@click.option("--force", is_flag=True, help="Measure anew what an earlier run has measured.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def calibrate(
    model: str,
    data: Path,
    concepts: str | None,
    features: int | None,
    feature: tuple[int, ...],
    k: int,
    doses: tuple[float, ...] | None,
    images: int,
    success: float,
    corruption: float,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Measure which doses of MODEL's concepts and features work, and which are safe.

    Each is clamped at several doses on photographs whose caption lacks it. The curves go into MODEL's
    feature atlas, as features/doses.parquet: a clamp of a concept may then leave out its dose, and a
    receipt warns above a safe one. A run that was stopped goes on where it was.
    """
    from sparse_encoder.dataset import find_shards, read_samples
    from vlm.calibrate import DEFAULT_DOSES, POOL, CalibrationSettings, photograph_pool
    from vlm.calibrate import calibrate as measure
    from vlm.dose_report import doses_json, doses_table
    from vlm.fluency import Fluency
    from vlm.model_folder import read_model

    settings = CalibrationSettings(doses or DEFAULT_DOSES, images, success, corruption)
    folder = read_model(model).path / "features"
    shards = find_shards(data, *(f"{name}*.tar" for name in POOL_SETS))
    samples = photograph_pool(read_samples(shards), POOL * images)
    pipeline = load_pipeline(model)
    targets = _targets(pipeline, data, concepts, features, feature, k, seed)
    from tqdm import tqdm

    with tqdm(unit="answer", smoothing=0.05) as bar:

        def told(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description(what, refresh=False)
            bar.update(done - bar.n)

        found = measure(
            pipeline,
            samples,
            targets,
            folder,
            settings,
            nll=Fluency(pipeline),
            overwrite=force,
            told=told,
        )
    click.echo(json.dumps(doses_json(found)) if as_json else doses_table(found))


def _targets(
    pipeline: "Pipeline",
    data: Path,
    concepts: str | None,
    features: int | None,
    feature: tuple[int, ...],
    k: int,
    seed: int,
) -> "list[DoseTarget]":
    from sparse_encoder.dataset import find_shards, read_samples
    from vlm.dose_target import (
        concept_targets,
        feature_targets,
        labelled_concepts,
        sampled_features,
    )

    atlas, encode = pipeline.atlas, pipeline.encoder.encode_texts
    targets = feature_targets(atlas, feature)
    if concepts is not None:
        targets += concept_targets(
            filter(None, map(str.strip, concepts.split(","))), atlas, encode, k
        )
    if features is not None:
        targets += sampled_features(atlas, features, seed)
    if concepts is None and features is None and not feature:
        shards = find_shards(data, *(f"{name}*.tar" for name in LABELLED_SETS))
        labels = (sample.label for sample in read_samples(shards))
        targets = [
            *labelled_concepts(labels, atlas, encode, k),
            *sampled_features(atlas, DEFAULT_FEATURES, seed),
        ]
    return list({target.key: target for target in targets}.values())
