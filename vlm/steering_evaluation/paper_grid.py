"""The paper's own protocol: K features and a strength SS, on labelled photographs (its section 5).

Of each photograph the label's K features are set to 0 and those of another label, drawn by chance, to
SS, an absolute activation. Asked for the main subject; judged by SBERT and the corruption rules.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from vlm.answer_batches import Question, Sample
from vlm.concepts import resolve
from vlm.edits import MAX_DOSE, Edit
from vlm.mention import Lexicon, pair_is_valid
from vlm.rate import Rate
from vlm.steering_evaluation.photographs import drawn
from vlm.steering_evaluation.sbert import Sbert, SoftScores, soft_scores
from vlm.steering_evaluation.wishes import Bench, Trial, Way, Wish, corrupt_by_rule

KS = (1, 2, 4, 8, 16)
STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)  # SS, raw activations


@dataclass(frozen=True)
class GridCell:
    """One K and SS over the photographs drawn."""

    k: int
    ss: float  # raw
    scores: SoftScores
    success: Rate  # by words and both criteria, which the paper does not have
    corrupt: dict[str, Rate]  # by rule, and "any"
    n_refused: int  # photographs left out, for SS is above the largest dose of a feature

    def to_json(self) -> dict[str, object]:
        return {
            "k": self.k,
            "ss": {"value": self.ss, "unit": "raw"},
            **self.scores.to_json(),
            "success": self.success.to_json(),
            "refused": self.n_refused,
            "corrupt": {rule: rate.to_json() for rule, rate in self.corrupt.items()},
        }


@dataclass(frozen=True)
class PaperGrid:
    """All cells, and what SS means in our unit.

    ss_in_p99: by SS, the 10th, 50th and 90th percentile over live features of SS / p99. n_dropped:
    photographs whose drawn label cannot be told from their own (PAPER 2.2.4).
    """

    cells: tuple[GridCell, ...]
    n_images: int
    n_dropped: int
    ss_in_p99: dict[float, tuple[float, float, float]]

    def to_json(self) -> dict[str, object]:
        return {
            "images": self.n_images,
            "dropped_pairs": self.n_dropped,
            "ss_in_p99": {
                f"{ss:g}": dict(zip(("p10", "p50", "p90"), found, strict=True))
                for ss, found in self.ss_in_p99.items()
            },
            "cells": [cell.to_json() for cell in self.cells],
        }


def paper_grid(
    bench: Bench,
    atlas: FeatureAtlas,
    encode_text: Callable[[list[str]], Tensor],
    sbert: Sbert,
    n_images: int,
    prompt: str,
) -> PaperGrid:
    """bench: with labelled photographs, asked `prompt`. n_images: drawn, the same for every cell."""
    wishes, n_dropped = label_swaps(bench, n_images)
    cells = []
    for k in KS:
        for ss in STRENGTHS:
            way = absolute(k, ss, prompt)
            able = [w for w in wishes if _is_allowed(way, w, bench, ss, atlas, encode_text)]
            trials = bench.tried(f"paper, K {k}, SS {ss:g}", able, way)
            cells.append(_cell(k, ss, trials, sbert, len(wishes) - len(able)))
    return PaperGrid(tuple(cells), len(wishes), n_dropped, ss_in_p99(atlas))


def _is_allowed(
    way: Way,
    wish: Wish,
    bench: Bench,
    ss: float,
    atlas: FeatureAtlas,
    encode_text: Callable[[list[str]], Tensor],
) -> bool:
    """Whether the product carries the wish out: SS is absolute, and a dose has a limit in p99."""
    if ss <= MAX_DOSE * atlas.p99[~atlas.dead].min():
        return True  # of any feature
    try:
        resolve(way(wish, bench.photographs.samples[wish.image]).edits, atlas, encode_text)
    except SparsightError:
        return False
    return True


def label_swaps(bench: Bench, n_images: int) -> tuple[list[Wish], int]:
    """A replacement of the label by another label, drawn by chance, on photographs drawn by chance.

    Only labels that an edit can name; pairs that no answer can tell apart are dropped, and counted.
    """
    labels = {
        i: name
        for i, sample in enumerate(bench.photographs.samples)
        if (name := " ".join((sample.label or "").lower().split())) in bench.lexicons
    }
    others = sorted(set(labels.values()))
    rng = np.random.default_rng(bench.seed)
    wishes = []
    chosen = drawn(frozenset(labels), n_images, bench.seed)
    for i in chosen:
        pool = [label for label in others if label != labels[i]]
        if not pool:
            continue
        target = pool[int(rng.integers(len(pool)))]
        if _tell_apart(bench, labels[i], target):
            wishes.append(Wish(i, "replacement", labels[i], target))
    return wishes, len(chosen) - len(wishes)


def absolute(k: int, ss: float, prompt: str | None) -> Way:
    """The paper's way: SS in raw units."""

    def way(wish: Wish, sample: Sample) -> Question:
        return Question(
            sample,
            prompt,
            (
                Edit("ablate", concept=wish.source, k=k),
                Edit("clamp", concept=wish.target, value=ss, unit="raw", k=k),
            ),
        )

    return way


def ss_in_p99(atlas: FeatureAtlas) -> dict[float, tuple[float, float, float]]:
    """What each SS is in multiples of p99: percentiles 10, 50, 90 over live features."""
    p99 = atlas.p99[~atlas.dead]
    return {
        ss: tuple(float(v) for v in np.percentile(ss / p99, (10, 50, 90)))  # type: ignore[misc]
        for ss in STRENGTHS
    }


def _tell_apart(bench: Bench, one: str, other: str) -> bool:
    a: Lexicon = bench.lexicons[one]
    return pair_is_valid(a, bench.lexicons[other])


def _cell(k: int, ss: float, trials: Sequence[Trial], sbert: Sbert, n_refused: int) -> GridCell:
    return GridCell(
        k,
        ss,
        soft_scores(trials, sbert),
        Rate.of([t.success for t in trials]),
        corrupt_by_rule(trials),
        n_refused,
    )
