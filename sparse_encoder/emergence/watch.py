"""Every feature of a run's end, followed back over the kept checkpoints on one image set.

Images are encoded once a stage and lie on disk; a run of this that was stopped goes on.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_encoder.emergence.correlation import Moments, best_matches
from sparse_encoder.emergence.drift import CHANGED, drift
from sparse_encoder.emergence.stage_codes import StageCodes, measure_stage
from sparse_encoder.emergence.stages import Stage
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.histogram import Histogram, linear_histogram
from sparse_encoder.evaluation.modality import N_MODALITY_BINS, modality_scores
from sparse_encoder.features.state import Arrays, BuildState
from sparse_encoder.features.text_words import rank_words
from sparse_encoder.features.words import WordForms, clean_words
from sparse_encoder.wheel import file_sha256

Told = Callable[[str, int, int], None]  # step, done, of


@dataclass(frozen=True)
class WatchSettings:
    """How much is looked at and kept."""

    top_images: int = 4  # a feature and stage
    names: int = 5  # a feature and stage
    at_least: int = 5  # images that a feature must be active on, then and in the end, to be judged
    texts: int = 4_096  # captions and labels whose mean activation enters modality

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise SparsightError(f"{name} is {value}, expected at least 1", param=name)


@dataclass(frozen=True)
class StageView:
    """One stage as it is shown. Arrays have one row a feature."""

    step: int
    share: float  # of the run, (0, 1]
    l0: float  # active features an image, threshold 0
    n_live: int  # features active on some image
    names: list[list[str]]  # best first, [] where no word is active on the feature
    density: NDArray[np.float32]  # share of images with the feature active, [0, 1]
    top_image: NDArray[np.int64]  # (features, k), -1 where there are fewer
    top_activation: NDArray[np.float32]  # (features, k), raw units
    own: NDArray[np.float32]  # correlation with the last stage's feature of the same index
    best: NDArray[np.float32]  # the largest, with whatever feature of this stage
    best_index: NDArray[np.int64]  # that feature
    verdict: list[str]  # kept, changed or untold
    moved: NDArray[np.bool_]
    modality: Histogram  # of the features that are active on images or texts
    modality_distance: float  # total variation to the last stage's histogram, [0, 1], 0 is equal

    @property
    def density_of_code(self) -> float:
        """L0 over features, [0, 1]."""
        return self.l0 / len(self.names)

    @property
    def label(self) -> str:
        """The share as it is printed: "3 %"; kept steps are whole, so it has two digits at most."""
        return f"{float(f'{100 * self.share:.2g}'):g} %"

    def count(self, verdict: str) -> int:
        return self.verdict.count(verdict)


@dataclass(frozen=True)
class Emergence:
    """All features at all kept checkpoints."""

    run: str
    keys: list[str]  # of the images, by number
    n_words: int
    settings: WatchSettings
    stages: list[StageView]  # first to last

    @property
    def n_features(self) -> int:
        return len(self.stages[-1].names)

    def changed(self, feature: int) -> bool:
        """Whether the feature meant something else at any stage that can be told."""
        return any(stage.verdict[feature] == CHANGED for stage in self.stages)


def watch(
    stages: Sequence[Stage],
    shards: Sequence[Path],
    words: Sequence[str],
    out: Path,
    *,
    run: str,
    forms: WordForms | None = None,
    settings: WatchSettings | None = None,
    told: Told = lambda *_: None,
) -> tuple[Emergence, BuildState]:
    """Encodes, names and compares. Remove the state when what came out is written.

    Raises SparsightError without a word or a readable photograph, for stages of another width, and
    where `out` cannot be written.
    """
    settings, forms = settings or WatchSettings(), forms or WordForms()
    words = clean_words(words)
    if not words:
        raise SparsightError(
            "the word list is empty, so that no feature could be named; give one word or short "
            "phrase a line",
            param="words",
            code="no_words",
        )
    state = BuildState(out, _digest(stages, shards, words, settings))
    seen, named, coded = _encode_all(stages, shards, words, state, settings, told)
    n_images = int(seen[-1]["n_images"])
    texts = _texts(coded[-1], settings.texts) or words[: settings.texts]
    modality = [_modality(codes, arrays, texts) for codes, arrays in zip(coded, seen, strict=True)]
    views = []
    for place, (stage, codes) in enumerate(zip(stages, coded, strict=True)):
        matched = state.once(
            f"matches-{stage.step}",
            partial(_match, coded[-1], codes, seen[-1], seen[place], told),
        )
        enough = (seen[place]["count"] >= settings.at_least) & (
            seen[-1]["count"] >= settings.at_least
        )
        judged = drift(matched["own"], matched["best"], named[place], named[-1], enough, forms)
        views.append(
            StageView(
                step=stage.step,
                share=stage.share,
                l0=float(seen[place]["count"].sum() / n_images),
                n_live=int((seen[place]["count"] > 0).sum()),
                names=named[place],
                density=(seen[place]["count"] / n_images).astype(np.float32),
                top_image=seen[place]["top_image"],
                top_activation=seen[place]["top_activation"],
                own=matched["own"],
                best=matched["best"],
                best_index=matched["index"],
                verdict=judged.verdict,
                moved=judged.moved,
                modality=modality[place],
                modality_distance=_distance(modality[place], modality[-1]),
            )
        )
    keys = [key for i in range(len(shards)) for key in coded[-1].shard(i)["keys"].tolist()]
    return Emergence(run, keys, len(words), settings, views), state


def _encode_all(
    stages: Sequence[Stage],
    shards: Sequence[Path],
    words: Sequence[str],
    state: BuildState,
    settings: WatchSettings,
    told: Told,
) -> tuple[list[Arrays], list[list[list[str]]], list[StageCodes]]:
    """Measures, names and codes of every stage, in order."""
    seen, named, coded = [], [], []
    width = 0
    for number, stage in enumerate(stages):
        codes = StageCodes(stage, state, shards, stage.load())
        width = width or codes.n_features
        if codes.n_features != width:
            raise SparsightError(
                f"{stage.folder} has {codes.n_features} features, the stage before it {width}: "
                "they are of different runs; remove the one that does not belong",
                param="run",
                code="other_width",
            )
        step = f"stage {number + 1} of {len(stages)}, images"
        for i in range(len(shards)):
            told(step, i, len(shards))
            codes.shard(i)
        measured = state.once(
            f"measures-{stage.step}", partial(measure_stage, codes, settings.top_images)
        )
        if not int(measured["n_images"]):
            raise SparsightError(
                f"no readable photograph in {len(shards)} shards; expected tar files with KEY.jpg "
                "beside KEY.json",
                param="images",
            )
        seen.append(measured)
        named.append(_names(codes, words, settings.names, f"stage {number + 1}, words", told))
        coded.append(codes)
    return seen, named, coded


def _names(
    codes: StageCodes, words: Sequence[str], k: int, step: str, told: Told
) -> list[list[str]]:
    """The k words with the largest lift on each feature, best first."""
    encoder = codes.encoder

    def encode(texts: list[str]) -> torch.Tensor:
        return encoder.text_codes(encoder.text_vectors(texts))

    ranked = rank_words(
        words,
        encode,
        codes.n_features,
        k,
        BuildState(codes.state.folder, f"words-{codes.stage.step}"),
        lambda done: told(step, done, len(words)),
    )
    return [[words[i] for i in row if i >= 0] for row in ranked["index"].tolist()]


def _match(later: StageCodes, earlier: StageCodes, now: Arrays, then: Arrays, told: Told) -> Arrays:
    moments = tuple(
        Moments(torch.from_numpy(a["mean"]), torch.from_numpy(a["deviation"])) for a in (now, then)
    )
    n = later.n_features
    found = best_matches(
        later.batches,
        earlier.batches,
        (moments[0], moments[1]),
        int(now["n_images"]),
        told=lambda done: told(f"matches at step {earlier.stage.step}", done, n),
    )
    return {"own": found.own.numpy(), "best": found.best.numpy(), "index": found.index.numpy()}


@torch.no_grad()
def _modality(codes: StageCodes, seen: Arrays, texts: Sequence[str]) -> Histogram:
    total = torch.zeros(codes.n_features, dtype=torch.float64)
    for start in range(0, len(texts), 1024):
        vectors = codes.encoder.text_vectors(texts[start : start + 1024])
        for rows in vectors.split(256):
            total += codes.encoder.text_codes(rows).double().sum(0).cpu()
    scores = modality_scores(torch.from_numpy(seen["mean"]), total / len(texts))
    return linear_histogram(scores, 0.0, 1.0, N_MODALITY_BINS)


def _texts(codes: StageCodes, at_most: int) -> list[str]:
    """The first captions and labels of the images."""
    found: list[str] = []
    for i in range(len(codes.shards)):
        for said in codes.shard(i)["texts"].tolist():
            found += said.split("\n") if said else []
        if len(found) >= at_most:
            break
    return found[:at_most]


def _distance(one: Histogram, other: Histogram) -> float:
    """Half the sum of differences of the shares a bin: the share that lies elsewhere, [0, 1]."""
    a, b = (np.asarray(h.counts, float) / max(sum(h.counts), 1) for h in (one, other))
    return float(np.abs(a - b).sum() / 2)


def _digest(
    stages: Sequence[Stage], shards: Sequence[Path], words: Sequence[str], settings: WatchSettings
) -> str:
    """Of all that the outcome depends on, so that no other watch's files are taken for this one's."""
    weights = [
        (stage.step, sorted((p.name, file_sha256(p)) for p in stage.folder.glob("*.safetensors")))
        for stage in stages
    ]
    made_of = {
        "weights": weights,
        "shards": [file_sha256(shard) for shard in shards],
        "words": hashlib.sha256("\n".join(words).encode()).hexdigest(),
        "settings": asdict(settings),
    }
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
