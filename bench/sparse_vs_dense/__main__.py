"""Sparse codes against dense ones and against other ways to sparsity, on frozen trunks.

``python -m bench.sparse_vs_dense --data DATA --out OUT``. Three observations of Sparse CLIP (arXiv
2601.20075, Figure 2) and a table of baselines, every case trained by the code that `sparsight train
encoder` runs. A run that is finished is not run again: give the same command to go on.
"""

import json
import logging
import time
from pathlib import Path

import click
from torch import Tensor

from bench.sparse_vs_dense.grid import (
    NARROW,
    RECIPE,
    SPLICE_WORDS,
    Case,
    all_cases,
    dense,
    head_run,
    relu,
)
from bench.sparse_vs_dense.held_out import read_held_out, trunks
from bench.sparse_vs_dense.runs import Bench
from bench.sparse_vs_dense.tables import (
    Runs,
    baseline_table,
    observations,
    verdict_lines,
    verdicts,
)
from sparse_encoder.dataset import find_shards
from sparse_encoder.errors import SparsightError
from sparse_encoder.head_inputs import head_inputs
from sparse_encoder.train import SHARDS
from sparse_encoder.trunk_cache import cached_images, cached_texts


@click.command()
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--seeds", default=3, show_default=True, help="Runs of each case.")
@click.option(
    "--epochs",
    default=RECIPE["epochs"],
    show_default=True,
    help="Passes over the pairs, all cases.",
)
@click.option("--case", "names", multiple=True, help="Only these, and no table. Default: all.")
def main(data: Path, out: Path, seeds: int, epochs: float, names: tuple[str, ...]) -> None:
    """Runs what is not yet run, then prints tables and verdicts; writes them to --out as well."""
    logging.getLogger("sparse_encoder").setLevel(logging.ERROR)
    known = [case.name for case in all_cases()]
    if unknown := set(names) - set(known):
        raise click.BadParameter(f"{sorted(unknown)}: known are {', '.join(known)}")
    bench = _read(data, out, {**RECIPE, "epochs": epochs})
    cases = [case for case in all_cases() if not names or case.name in names]
    if any(case.method != "heads" for case in cases) and dense(NARROW) not in cases:
        cases.insert(0, dense(NARROW))  # what they decompose
    # Seed by seed, so that a bench that is stopped early has whole tables of fewer seeds.
    try:
        runs = _run_all(bench, [(case, seed) for seed in range(seeds) for case in cases])
    except SparsightError as error:
        raise click.ClickException(error.message) from error
    if names:
        click.echo(json.dumps(runs, indent=1))
        return
    found = verdicts(runs)
    text = "\n\n".join([verdict_lines(found), observations(runs), baseline_table(runs)])
    (out / "report.md").write_text(text + "\n")
    report = {
        "recipe": bench.recipe,
        "seeds": seeds,
        "verdicts": [{"observation": v.observation, "verdict": v.word} for v in found],
        "claims": [vars(claim) for v in found for claim in v.claims],
        "runs": runs,
    }
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    click.echo(text)


def _read(data: Path, out: Path, recipe: dict[str, object]) -> Bench:
    click.echo("reading trunk outputs", err=True)
    encoder, run = trunks(), head_run(relu(NARROW), 0, recipe)
    images = cached_images(find_shards(data, *SHARDS), encoder.image_trunk, run.image_trunk)

    def words() -> Tensor:
        listed = (data / "text" / "words.txt").read_text().split()[:SPLICE_WORDS]
        return cached_texts(listed, encoder.text_trunk, run.text_trunk).float()

    held_out = read_held_out(encoder, data)
    return Bench(head_inputs(encoder, images, run), words, held_out, recipe, out)


def _run_all(bench: Bench, todo: list[tuple[Case, int]]) -> Runs:
    runs: Runs = {case.name: [] for case, _ in todo}
    start, n_run = time.monotonic(), 0
    for n, (case, seed) in enumerate(todo, 1):
        done = bench.finished(case, seed)
        measures = done if done is not None else bench.run(case, seed)
        runs[case.name].append(measures)
        n_run += done is None
        left = (time.monotonic() - start) / max(n_run, 1) * (len(todo) - n) / 60
        click.echo(
            f"[{n}/{len(todo)}] {case.name} seed {seed}: zero-shot "
            f"{100 * measures['zeroshot']:.1f} %, L0 {measures['l0']:.0f}"
            + (" (was done)" if done is not None else f"; about {left:.0f} min left"),
            err=True,
        )
    return runs


if __name__ == "__main__":
    main()
