"""Sparse heads against the dense ones trained on the same data: ``python -m bench.encoder_heads``.

Trains each kind with each seed by the code that `sparsight train encoder` runs, evaluates it on the
held-out sets and prints all of them side by side. A run that is finished is not run again.
"""

import json
from pathlib import Path
from statistics import mean

import click

from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.evaluation.evaluate import RETRIEVAL_SET, EncoderReport, evaluate_encoder
from sparse_encoder.train import train_encoder

# The dense heads differ in width, from the paper's baseline to as wide as the sparse one.
KINDS: dict[str, dict[str, object]] = {
    "sparse 8192": {},
    "dense 512": {"features": 512, "activation": "identity", "bias": 0.0, "density": 1.0},
    "dense 2048": {"features": 2048, "activation": "identity", "bias": 0.0, "density": 1.0},
}


@click.command()
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--seeds", default=3, show_default=True, help="Runs of each kind.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(sorted(KINDS)), help="Default: all."
)
def main(data: Path, out: Path, seeds: int, kinds: tuple[str, ...]) -> None:
    """Trains and compares sparse and dense heads on the data sets in --data."""
    chosen = [k for k in KINDS if k in kinds or not kinds]
    found = {
        kind: [
            _report(kind, seed, data, out / f"{kind.replace(' ', '-')}-seed{seed}")
            for seed in range(seeds)
        ]
        for kind in chosen
    }
    click.echo(_table(found))


def _report(kind: str, seed: int, data: Path, folder: Path) -> dict[str, float]:
    path = folder / "report.json"
    if not path.exists():
        train_encoder("mini", data, folder, {**KINDS[kind], "seed": seed})
        encoder = SparseEncoder.load(folder)
        activation = str(KINDS[kind].get("activation", "relu"))
        encoder.image_head.activation = encoder.text_head.activation = activation
        path.write_text(json.dumps(_measures(evaluate_encoder(encoder, data))))
    measures: dict[str, float] = json.loads(path.read_text())
    return measures


def _measures(report: EncoderReport) -> dict[str, float]:
    return {
        **report.retrieval,
        **{f"{name} top-1": value for name, value in report.zeroshot.items()},
        **{f"{name} density": value for name, value in report.image_density.items()},
        f"{RETRIEVAL_SET} text density": report.text_density,
    }


def _table(found: dict[str, list[dict[str, float]]]) -> str:
    """Per cent: mean (lowest to highest seed) of each kind."""
    kinds = list(found)
    names = list(found[kinds[0]][0])
    lines = [f"{'per cent, mean (range) over seeds':28}" + "".join(f"{k:>24}" for k in kinds)]
    for name in names:
        cells = []
        for kind in kinds:
            values = [100 * run[name] for run in found[kind]]
            cells.append(f"{mean(values):.1f} ({min(values):.1f}-{max(values):.1f})")
        lines.append(f"{name:28}" + "".join(f"{c:>24}" for c in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
