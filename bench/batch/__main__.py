"""Photographs a second of ``sparsight caption`` against a plain loop: ``python -m bench.batch``.

The plain loop is what one writes first: open, encode, generate, one photograph after the other. The
batch is the command's own way, journal included. Both run on the same photographs (made up, or real
ones with ``--data``), with the same model, in one process after the other's codes were dropped, and
their captions are compared. Those of made-up photographs are short, so less is left to be batched.
Wall time counts only on an idle machine; CPU time, worker processes included, is printed beside it.

With ``--memory`` no model runs: the resident size after ever more photographs (distinct bytes,
decoded and journalled; answers are made up) shows whether anything grows with their number.

This file is the package's ``__main__`` because a worker imports the main module of a program again,
but not one of that name: the command's own is light, and torch here would delay each worker by
seconds that the command does not take.
"""

import tempfile
from pathlib import Path

import click
import torch

from bench.batch.compare import Clock, batch, measured, photo_files, plain_loop, report
from bench.batch.memory import memory
from serving.batch.run import Pace
from vlm.pipeline import Pipeline


@click.command()
@click.option("--model", default="sparsight-mini", show_default=True)
@click.option("--photos", default=64, show_default=True, help="How many photographs.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the data sets, for Flickr8k's held-out photographs.  [default: made-up ones]",
)
@click.option("--size", nargs=2, type=int, default=(1600, 1200), show_default=True, help="Pixels.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that decode.")
@click.option("--max-tokens", default=64, show_default=True)
@click.option("--threads", default=0, help="Of torch; 0: as torch chooses.")
@click.option("--memory", "n_memory", default=0, help="Instead: memory over so many photographs.")
def main(
    model: str,
    photos: int,
    data: Path | None,
    size: tuple[int, int],
    batch_size: int,
    workers: int,
    max_tokens: int,
    threads: int,
    n_memory: int,
) -> None:
    """Time the batch against the plain loop, or measure its memory."""
    if n_memory:
        for n, resident in memory(n_memory):
            click.echo(f"{n:>9,} photographs: {resident:.0f} MiB resident")
        return
    if threads:
        torch.set_num_threads(threads)
    pipeline = Pipeline.load(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = []
        for n, file in enumerate(photo_files(data, photos, size)):
            paths.append(folder / f"{n:05d}.jpg")
            paths[-1].write_bytes(file)
        pace = Pace(batch_size=batch_size, workers=workers)
        plain_loop(pipeline, paths[:1], 4, Clock())  # the first one pays for lazy starts
        runs = {}
        for what, work in (
            ("plain loop", lambda clock: plain_loop(pipeline, paths, max_tokens, clock)),
            ("batch", lambda clock: batch(pipeline, folder, pace, max_tokens, clock)),
        ):
            pipeline.kept_codes.clear()
            runs[what] = measured(work)
        report(runs)


if __name__ == "__main__":
    main()
