"""Measures everything of an encoder, in one pass over each set below a data folder.

A set is what matches ``*/val-*.tar`` (with captions: retrieval; without: codes alone) or
``zeroshot/*-test.tar`` (labels). Held at once: one set's trunk vectors, and features x embedding
for Clarity and MonoSemanticity; never images x features, never texts x images.
"""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from sparse_encoder.dataset import find_shards
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.box_classification import (
    BoxAccuracy,
    classify_boxes,
    read_annotations,
)
from sparse_encoder.evaluation.clarity import ClarityStats
from sparse_encoder.evaluation.code_rows import CodeRows
from sparse_encoder.evaluation.evaluate import class_names, read_classes, text_encoder
from sparse_encoder.evaluation.evaluated import Evaluated
from sparse_encoder.evaluation.histogram import linear_histogram, log_histogram
from sparse_encoder.evaluation.image_set import ImageSet, read_image_set
from sparse_encoder.evaluation.independent_embedding import TRUNK, TRUNK_LIMIT, IndependentEmbedding
from sparse_encoder.evaluation.measures import EncoderMeasures, Retrieval, SetMeasures, ZeroShot
from sparse_encoder.evaluation.modality import modality_summary
from sparse_encoder.evaluation.monosemanticity import MonoSemanticityStats
from sparse_encoder.evaluation.retrieval import chance_recall, recall
from sparse_encoder.evaluation.sparsity import THRESHOLDS, SparsityStats
from sparse_encoder.evaluation.zeroshot import TopKHits, class_codes, label_index, template_set
from sparse_encoder.templates import TEMPLATE_SETS

CLARITY_MIN_IMAGES = (2, 20)  # the paper's, and one that rare features do not dominate
FEW_IMAGES = 10_000  # the paper's smallest set has 800,000; below this, rare features are noise
COSINES = (-0.2, 1.0, 60)  # low, high, bins; the few scores below go into the first bin
BOX_FILES = ("coco/instances_val*.json", "coco/annotations/instances_val*.json")
BOX_SHARDS = "coco/val-*.tar"


class _Sums:
    """What is summed over all sets."""

    def __init__(self, features: int, width: int) -> None:
        self.images = SparsityStats(features)
        self.texts = SparsityStats(features)
        self.clarity = ClarityStats(features, width)
        self.monosemanticity = MonoSemanticityStats(features, width)


@dataclass
class _Labelled:
    """The zero-shot task of one set: labels, and the hits with each set of templates."""

    label: Tensor
    hits: dict[str, TopKHits]

    def measures(self) -> list[ZeroShot]:
        return [
            ZeroShot(name, len(h.classes), h.share(1), h.share(5), h.chance(1), h.chance(5))
            for name, h in self.hits.items()
        ]


@torch.no_grad()
def measure_encoder(
    encoder: Evaluated,
    data: Path,
    *,
    templates: Sequence[str] = tuple(TEMPLATE_SETS),
    embedding: IndependentEmbedding | None = None,
) -> EncoderMeasures:
    """Measures all that the sets below `data` allow; what they do not allow is among the limits.

    embedding: judges Clarity and MonoSemanticity; None for the encoder's own trunk vectors, which
    the report then says. Raises SparsightError where `data` holds no set, or an empty one.
    """
    started = time.monotonic()
    sentences = {name: template_set(name) for name in templates}
    limits = [TRUNK_LIMIT if embedding is None else embedding.limit]
    sums: _Sums | None = None
    sets = {}
    for name, pattern in tqdm(_find_sets(data).items(), desc="sets", unit="set", delay=1):
        images = read_image_set(encoder, data, name, pattern, embedding)
        sums = sums or _Sums(encoder.features, images.embedding.shape[1])
        sets[name] = _measure_set(encoder, data, images, sentences, sums)
        if not sets[name].zeroshot and sets[name].retrieval is None:
            limits.append(f"{name} has no captions that people wrote, so no retrieval either.")
    assert sums is not None  # `_find_sets` gives at least one
    boxes = _measure_boxes(encoder, data, sentences)
    limits += _limits(sums, boxes)
    return EncoderMeasures(
        encoder=encoder.describe(),
        sets=sets,
        boxes=boxes,
        n_images=sums.images.n_inputs,
        n_texts=sums.texts.n_inputs,
        image_sparsity=[sums.images.summary(t) for t in THRESHOLDS],
        text_sparsity=[sums.texts.summary(t) for t in THRESHOLDS if sums.texts.n_inputs],
        density=log_histogram(sums.images.density(0.0)),
        modality=(
            modality_summary(sums.images.mean_activation(), sums.texts.mean_activation())
            if _has_modality(sums)
            else None
        ),
        embedding=TRUNK if embedding is None else embedding.name,
        clarity=[sums.clarity.summary(n) for n in CLARITY_MIN_IMAGES],
        clarity_scores=linear_histogram(sums.clarity.scores(), *COSINES),
        monosemanticity=sums.monosemanticity.summary(),
        monosemanticity_scores=linear_histogram(sums.monosemanticity.scores(), *COSINES),
        limits=limits,
        made_with={
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def _find_sets(data: Path) -> dict[str, str]:
    """Glob pattern of each set below `data`, sorted by name."""
    patterns = {}
    for shard in data.glob("*/val-*.tar"):
        patterns[f"{shard.parent.name}/val"] = f"{shard.parent.name}/val-*.tar"
    for shard in data.glob("zeroshot/*-test.tar"):
        patterns[shard.name.removesuffix("-test.tar")] = f"zeroshot/{shard.name}"
    if not patterns:
        raise SparsightError(
            f"there is nothing to evaluate on in {data}: no shard matches */val-*.tar or "
            "zeroshot/*-test.tar (give the folder of the data sets with --data)",
            param="data",
        )
    return dict(sorted(patterns.items()))


def _measure_set(
    encoder: Evaluated,
    data: Path,
    images: ImageSet,
    sentences: dict[str, tuple[str, ...]],
    sums: _Sums,
) -> SetMeasures:
    """One pass over the photographs' codes, then retrieval; adds to all sums on the way."""
    own = SparsityStats(encoder.features)
    task = _labelled(encoder, data, images, sentences)
    bar = tqdm(total=len(images.samples), desc=images.name, unit="image", delay=1, leave=False)
    for index, code in images.rows.batches():
        own.add(code)
        sums.images.add(code)
        embedding = images.embedding[index].to(code.device)
        sums.clarity.add(code, embedding)
        sums.monosemanticity.add(code, embedding)
        for hits in task.hits.values():
            hits.add(code, task.label[index])
        bar.update(len(index))
    bar.close()
    by_people = any(s.captions and not s.captions_by_rule for s in images.samples)
    return SetMeasures(
        n_images=len(images.samples),
        sparsity=[own.summary(t) for t in THRESHOLDS],
        zeroshot=task.measures(),
        retrieval=_retrieval(encoder, images, sums.texts) if by_people else None,
    )


def _labelled(
    encoder: Evaluated, data: Path, images: ImageSet, sentences: dict[str, tuple[str, ...]]
) -> _Labelled:
    """Without hits where the set is none of labels."""
    if "/" in images.name:
        return _Labelled(torch.zeros(0, dtype=torch.int64), {})
    names = class_names(read_classes(data), images.name)
    label = label_index([s.label for s in images.samples], names, images.name)
    texts = text_encoder(encoder)
    return _Labelled(
        label, {key: TopKHits(class_codes(names, texts, t)) for key, t in sentences.items()}
    )


def _retrieval(encoder: Evaluated, images: ImageSet, texts: SparsityStats) -> Retrieval:
    captions, owner = images.captions()
    text = CodeRows(encoder.text_vectors(captions), encoder.text_codes)
    for _, code in text.batches():
        texts.add(code)
    owners = torch.tensor(owner)
    return Retrieval(
        len(captions), recall(text, images.rows, owners), chance_recall(owners, len(images.samples))
    )


def _measure_boxes(
    encoder: Evaluated, data: Path, sentences: dict[str, tuple[str, ...]]
) -> dict[str, BoxAccuracy]:
    files = sorted(path for pattern in BOX_FILES for path in data.glob(pattern))
    if not files:
        return {}
    annotations, shards = read_annotations(files[0]), find_shards(data, BOX_SHARDS)
    return {
        name: classify_boxes(encoder, annotations, shards, templates)
        for name, templates in sentences.items()
    }


def _has_modality(sums: _Sums) -> bool:
    return bool(sums.texts.n_inputs) and not (sums.images.has_negative or sums.texts.has_negative)


def _limits(sums: _Sums, boxes: dict[str, BoxAccuracy]) -> list[str]:
    limits = []
    if sums.images.n_inputs < FEW_IMAGES:
        limits.append(
            f"Active and dead features, Clarity and MonoSemanticity come from "
            f"{sums.images.n_inputs:,} images; the paper's sets have 800,000 and 1.2 million. A "
            "feature that is dead here may be a rare one."
        )
    if not boxes:
        limits.append(
            f"No boxes were classified: there is no {BOX_FILES[0]} (COCO's annotations) in the data."
        )
    if not sums.texts.n_inputs:
        limits.append("No set has captions that people wrote: no retrieval and no modality.")
    elif not _has_modality(sums):
        limits.append("Codes have negative entries (a dense head), so modality has no meaning.")
    return limits
