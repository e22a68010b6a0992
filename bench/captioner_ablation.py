"""What text codes, swapped, thinned and amplified codes bring: ``python -m bench.captioner_ablation``.

Trains short runs of equal length that differ in one thing, captions the held-out photographs, and
steers those that say the source concept. A run that is finished is not run again.
"""

import json
from pathlib import Path

import click

from sparse_encoder.dataset import find_shards, read_samples
from vlm.evaluate_captions import evaluate_captions
from vlm.pipeline import Pipeline
from vlm.steering_evaluation.fixed_pairs import SteeringSettings, evaluate_steering
from vlm.steering_evaluation.pairs import STEERING_PAIRS
from vlm.train_run import train_vlm

# Photograph rows take the place of the text rows that a run leaves out: equal work, not equal data.
RUNS: dict[str, dict[str, object]] = {
    "all": {},
    "no text codes": {"text_rows": 0, "caption_rows": 12, "label_rows": 16},
    "no edited codes": {"edits.swap": 0.0},
    "with dropout": {"edits.dropout": 0.3},
    "with amplification": {"edits.amplify": 0.3},
    "with both": {"edits.dropout": 0.3, "edits.amplify": 0.3},
}


@click.command()
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--encoder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Default: the model in the box.",
)
@click.option("--steps", default=120, show_default=True, help="Steps of each run.")
def main(data: Path, out: Path, encoder: Path | None, steps: int) -> None:
    """Trains the ablated captioners on the data sets in --data and prints their scores."""
    click.echo(f"{'run':20}{'CIDEr':>8}{'BLEU-4':>8}   replacement, both criteria (dog, cat, man)")
    for name, settings in RUNS.items():
        folder = out / name.replace(" ", "-")
        click.echo(_line(name, _scores(folder, data, encoder, {**settings, "steps": steps})))


def _scores(
    folder: Path, data: Path, encoder: Path | None, settings: dict[str, object]
) -> dict[str, object]:
    path = folder / "scores.json"
    if not path.exists():
        train_vlm("mini", data, folder, settings, encoder_folder=encoder)
        pipeline = Pipeline.load(folder)
        samples = list(read_samples(find_shards(data, "flickr8k/val-*.tar")))
        captions = evaluate_captions(pipeline, samples, set_name="flickr8k/val")
        pets = list(read_samples(find_shards(data, "zeroshot/catsdogs-test.tar")))
        steering = evaluate_steering(
            pipeline,
            [*samples, *pets],
            pairs=STEERING_PAIRS[:3],
            settings=SteeringSettings(k=16, dose=1.5, n_control_draws=0, prompt_baseline=False),
        )
        rates = [str(result.success) for result in steering.results]
        path.write_text(json.dumps({**captions.to_json(), "replacement": rates}))
    scores: dict[str, object] = json.loads(path.read_text())
    return scores


def _line(name: str, scores: dict[str, object]) -> str:
    replacement = "; ".join(str(r) for r in scores["replacement"])  # type: ignore[attr-defined]
    return f"{name:20}{scores['cider']:8.3f}{scores['bleu4']:8.3f}   {replacement}"


if __name__ == "__main__":
    main()
