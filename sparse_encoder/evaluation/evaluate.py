"""The encoder's table: retrieval, zero-shot classification, density."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.code_rows import CodeRows
from sparse_encoder.evaluation.evaluated import Evaluated, FrozenTrunkEncoder
from sparse_encoder.evaluation.image_set import ImageSet, read_image_set
from sparse_encoder.evaluation.retrieval import recall
from sparse_encoder.evaluation.sparsity import SparsityStats
from sparse_encoder.evaluation.zeroshot import accuracy, class_codes, label_index, template_set

RETRIEVAL_SET = "flickr8k/val"
ZEROSHOT_SETS = ("caltech101", "imagenet", "catsdogs", "grocery")
DEFAULT_TEMPLATES = "mini"


@dataclass(frozen=True)
class EncoderReport:
    """Shares in [0, 1]. Densities are at threshold 0, of global codes."""

    retrieval: dict[str, float]
    zeroshot: dict[str, float]
    image_density: dict[str, float]  # of each set
    text_density: float  # of the retrieval set's captions
    n_images: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "retrieval": {RETRIEVAL_SET: self.retrieval},
            "zeroshot": self.zeroshot,
            "image_density": self.image_density,
            "text_density": self.text_density,
            "n_images": self.n_images,
        }

    def table(self) -> str:
        """Per cent, one line a measure."""
        lines = [f"{RETRIEVAL_SET} ({self.n_images[RETRIEVAL_SET]} images), per cent"]
        for way in ("t2i", "i2t"):
            recalls = ", ".join(
                f"R@{k.split('@')[1]} {100 * v:.1f}"
                for k, v in self.retrieval.items()
                if k.startswith(way)
            )
            lines.append(f"  {'text to image' if way == 't2i' else 'image to text'}: {recalls}")
        lines.append(f"  density (threshold 0): text {100 * self.text_density:.2f}")
        lines.append("set          images   top-1   image density")
        for name in (RETRIEVAL_SET, *self.zeroshot):
            top1 = f"{100 * self.zeroshot[name]:.1f}" if name in self.zeroshot else "-"
            density = 100 * self.image_density[name]
            lines.append(f"{name:12} {self.n_images[name]:6} {top1:>7} {density:10.2f}")
        return "\n".join(lines)


@torch.no_grad()
def evaluate_encoder(
    encoder: SparseEncoder | Evaluated, data: Path, templates: str = DEFAULT_TEMPLATES
) -> EncoderReport:
    """Evaluates on the held-out sets below `data`; trunk outputs are cached.

    templates: "mini" (the six that the shipped figures were made with) or "imagenet80".
    """
    if isinstance(encoder, SparseEncoder):
        encoder = FrozenTrunkEncoder(encoder)
    sentences = template_set(templates)
    retrieval = read_image_set(encoder, data, RETRIEVAL_SET, f"{RETRIEVAL_SET}-*.tar")
    captions, owner = retrieval.captions()
    text = CodeRows(encoder.text_vectors(captions), encoder.text_codes)
    density = {RETRIEVAL_SET: _density(retrieval.rows, encoder.features)}
    counts = {RETRIEVAL_SET: len(retrieval.samples)}
    zeroshot = {}
    classes = read_classes(data)
    for name in ZEROSHOT_SETS:
        images = read_image_set(encoder, data, name, f"zeroshot/{name}-test.tar")
        names = class_names(classes, name)
        label = label_index([s.label for s in images.samples], names, name)
        codes = class_codes(names, text_encoder(encoder), sentences)
        zeroshot[name] = _accuracy(images, codes, label)
        density[name] = _density(images.rows, encoder.features)
        counts[name] = len(images.samples)
    return EncoderReport(
        recall(text, retrieval.rows, torch.tensor(owner)),
        zeroshot,
        density,
        _density(text, encoder.features),
        counts,
    )


def read_classes(data: Path) -> dict[str, list[str]]:
    """Class names of each zero-shot set, from ``zeroshot/classes.json`` below `data`."""
    path = data / "zeroshot" / "classes.json"
    try:
        classes: dict[str, list[str]] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SparsightError(
            f"cannot read the class names in {path}: {error}", param="data"
        ) from error
    return classes


def class_names(classes: dict[str, list[str]], name: str) -> list[str]:
    """Those of the zero-shot set `name`; raises SparsightError where it has none."""
    if not classes.get(name):
        raise SparsightError(
            f"zeroshot/classes.json has no names for {name!r}, only for: "
            f"{', '.join(sorted(classes)) or 'nothing'}",
            param="data",
        )
    return classes[name]


def text_encoder(encoder: Evaluated) -> Callable[[list[str]], Tensor]:
    """Codes of texts (texts, features), as `class_codes` asks for them."""
    return lambda texts: encoder.text_codes(encoder.text_vectors(texts))


def _accuracy(images: ImageSet, classes: Tensor, label: Tensor) -> float:
    hits = 0.0
    for index, _ in images.rows.batches():
        hits += accuracy(images.rows[index], classes, label[index]) * len(index)
    return hits / len(label)


def _density(rows: CodeRows, n_features: int) -> float:
    stats = SparsityStats(n_features, thresholds=(0.0,))
    for _, code in rows.batches():
        stats.add(code)
    return stats.summary(0.0).density
