"""Which cells a clamp without a region should reach: ``python -m bench.reach``.

Steers the same photographs by each rule of vlm/reach.py and prints how often the replacement
worked. The rule in use is `DEFAULT_REACH`; training uses it too, which favours it.
"""

from pathlib import Path
from typing import get_args

import click

from sparse_encoder.dataset import find_shards, read_samples
from vlm.fluency import Fluency
from vlm.pipeline import Pipeline
from vlm.reach import DEFAULT_REACH, Reach
from vlm.steering_evaluation.fixed_pairs import SteeringSettings, evaluate_steering
from vlm.steering_evaluation.pairs import STEERING_PAIRS


@click.command()
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--model", default="sparsight-mini", show_default=True)
@click.option("--k", default=16, show_default=True, help="Features a concept.")
@click.option("--dose", default=1.0, show_default=True, help="Of the clamp, p99 units.")
@click.option("--images", default=40, show_default=True, help="At most so many a pair.")
def main(data: Path, model: str, k: int, dose: float, images: int) -> None:
    """Compares the reach rules on cats and dogs and on the captioned photographs held out."""
    pipeline = Pipeline.load(model)
    samples = list(
        read_samples(find_shards(data, "zeroshot/catsdogs-test.tar", "flickr8k/val-*.tar"))
    )
    settings = SteeringSettings(
        k=k, dose=dose, n_control_draws=0, prompt_baseline=False, max_eligible=images
    )
    for rule in get_args(Reach):
        pipeline.reach = rule
        found = evaluate_steering(
            pipeline, samples, pairs=STEERING_PAIRS[:3], settings=settings, nll=Fluency(pipeline)
        )
        mark = "*" if rule == DEFAULT_REACH else " "
        rates = "; ".join(f"{r.pair} {r.success}" for r in found.results)
        click.echo(f"{mark}{rule:8} {rates}")


if __name__ == "__main__":
    main()
