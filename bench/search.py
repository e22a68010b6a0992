"""How long finding a feature takes, and a report of all: ``python -m bench.search``.

Two atlases: the model's own, and a synthetic one of 55,296 features that share 98,619 made-up words
(a name and four further ones each, as the build gives). Encoding the query is shown apart, since it
is the text tower's time. Times are medians over rounds of all queries, on one thread, by the clock
and of the processor, which differ where the machine has other work.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas, concept_codes
from sparse_encoder.feature_report.write import write_report
from sparse_encoder.feature_search import FeatureFinder
from sparse_encoder.features.top_images_file import TopImages
from sparse_encoder.features.trust import VERDICTS

QUERIES = ("dog", "elefant", "a red bus", "sunset over the sea", "bu")
N_FEATURES, N_WORDS, WIDTH = 55_296, 98_619, 768


@click.command()
@click.option("--model", default="sparsight-mini", show_default=True)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--synthetic-only", is_flag=True, help="Leave the model out.")
def main(model: str, rounds: int, synthetic_only: bool) -> None:
    """Prints milliseconds a query: making the index, text, search, neighbours."""
    torch.set_num_threads(1)
    if not synthetic_only:
        from serving.features.opened import open_features

        opened = open_features(model)
        encoder = opened.encoder
        report(
            model, opened.atlas, encoder.encode_texts, encoder.image_head.weight.detach(), rounds
        )
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(N_FEATURES, WIDTH, generator=random)
    atlas = synthetic_atlas()
    report("synthetic", atlas, None, weight, rounds)
    with TemporaryDirectory() as folder:
        clock, processor = time.perf_counter(), time.process_time()
        written = write_report(
            atlas, Path(folder) / "report", "synthetic", top_images=synthetic_top_images(atlas)
        )
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        first = written.page.with_name("data") / "index.js"
        click.echo(
            f"report of it, with cell maps and no pictures: {written.n_files} files, "
            f"{written.n_bytes / 1e6:.1f} MB, of which {first.stat().st_size / 1e6:.1f} MB are loaded "
            f"to open it; {clock:.1f} s (processor {processor:.1f})"
        )


def report(
    label: str,
    atlas: FeatureAtlas,
    encode_texts: Callable[[list[str]], Tensor] | None,
    weight: Tensor,
    rounds: int,
) -> None:
    """Prints one line. Without a text tower each query gets a made-up sparse code at no cost."""
    codes = {
        query: concept_codes([query], encode_texts) if encode_texts else _made_up(query, atlas)
        for query in QUERIES
    }
    made = time.process_time()
    finder = FeatureFinder(
        atlas, encode_texts=lambda texts: codes[texts[0]].expand(len(texts), -1), head_weight=weight
    )
    made = time.process_time() - made
    text = _milliseconds(lambda q: concept_codes([q], encode_texts), rounds) if encode_texts else []
    search = _milliseconds(finder.search, rounds)
    near = _milliseconds(lambda q: finder.neighbours(len(q)), rounds)
    click.echo(
        f"{label}: {atlas.n_features:,} features, {finder.n_words:,} words; index made in "
        f"{1e3 * made:.0f} ms of processor time; search {_spread(search)}; neighbours {_spread(near)}; "
        f"text {_spread(text) if text else 'not measured (no tower)'}"
    )


def synthetic_atlas(n_features: int = N_FEATURES, n_words: int = N_WORDS) -> FeatureAtlas:
    """Words of 3 to 12 letters; numbers as a real atlas has them, a hundredth of features dead."""
    random = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    words = ["".join(random.choice(letters, n)) for n in random.integers(3, 13, n_words)]
    picked = random.integers(0, n_words, (n_features, 5))
    live = random.random(n_features) > 0.01
    density = np.where(live, 10 ** random.uniform(-4, -0.5, n_features), 0).astype(np.float32)
    p50 = np.where(live, random.uniform(0.1, 2, n_features), 0).astype(np.float32)
    score = random.random((6, n_features)).astype(np.float32)
    near = random.integers(0, n_features, (2, n_features, 8)).tolist()
    return FeatureAtlas(
        fingerprint="0" * 64,
        names=[words[i] for i in picked[:, 0]],
        runner_up=[[words[i] for i in row[1:]] for row in picked],
        name_score=p50,
        density=density,
        p50=p50,
        p90=p50 * 2,
        p99=p50 * 3,
        max=p50 * 4,
        modality=random.random(n_features).astype(np.float32),
        vocabulary=frozenset(words),
        description=[
            f"{', '.join(words[i] for i in row)}; said of its 16 strongest images: {words[row[0]]} 9"
            for row in picked
        ],
        named_by=["images"] * n_features,
        trust=[VERDICTS[i] for i in random.integers(1, 4, n_features)],
        trust_positives=random.integers(0, 500, n_features).astype(np.int32),
        trust_auc=score[0],
        trust_low=score[1],
        trust_high=score[2],
        mean=p50,
        clarity=score[3],
        monosemanticity=score[4],
        name_lift=score[5],
        near_head=near[0],
        near_active=near[1],
    )


def synthetic_top_images(atlas: FeatureAtlas, kept: int = 4, side: int = 9) -> TopImages:
    """`kept` images a feature with maps of side x side cells, as a build writes them."""
    random = np.random.default_rng(1)
    n = kept * atlas.n_features
    cells = random.integers(0, 256, (n, side * side), dtype=np.uint8)
    number = random.integers(0, 100_000, n)
    table = pa.table(
        {
            "feature": np.repeat(np.arange(atlas.n_features, dtype=np.int32), kept),
            "id": [f"coco-{i:012}" for i in number],
            "shard": pa.array(["train-0000.tar"] * n).dictionary_encode(),
            "activation": random.random(n).astype(np.float32),
            "cell_scale": np.ones(n, np.float32),
            "cells": pa.array([row.tobytes() for row in cells], pa.binary(side * side)),
        }
    )
    return TopImages(table, (side, side))


def _made_up(query: str, atlas: FeatureAtlas) -> Tensor:
    random = torch.Generator().manual_seed(len(query))
    return (torch.randn(1, atlas.n_features, generator=random) - 1.6).relu()  # 5 % active


def _milliseconds(work: Callable[[str], object], rounds: int) -> list[tuple[float, float]]:
    """(clock, processor) of each call."""
    taken = []
    for _ in range(rounds):
        for query in QUERIES:
            clock, processor = time.perf_counter(), time.process_time()
            work(query)
            taken.append((time.perf_counter() - clock, time.process_time() - processor))
    return [(1e3 * clock, 1e3 * processor) for clock, processor in taken]


def _spread(taken: list[tuple[float, float]]) -> str:
    clock, processor = zip(*taken, strict=True)
    return (
        f"{median(clock):.1f} ms (slowest {max(clock):.1f}; processor {median(processor):.1f}, "
        f"most {max(processor):.1f})"
    )


if __name__ == "__main__":
    main()
