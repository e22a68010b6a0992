"""The encoder's table: retrieval, zero-shot classification, density."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.contrastive import unit
from sparse_encoder.dataset import Sample, find_shards
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.retrieval import recall
from sparse_encoder.trunk_cache import cached_images
from sparse_encoder.zeroshot import accuracy, class_codes

RETRIEVAL_SET = "flickr8k/val"
ZEROSHOT_SETS = ("caltech101", "imagenet", "catsdogs", "grocery")


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
def evaluate_encoder(encoder: SparseEncoder, data: Path) -> EncoderReport:
    """Evaluates on the held-out sets below `data`; trunk outputs are cached."""
    retrieval_samples, image = _codes(encoder, data, f"{RETRIEVAL_SET}-*.tar")
    captions = [c for s in retrieval_samples for c in s.captions]
    owner = [i for i, s in enumerate(retrieval_samples) for _ in s.captions]
    text = encoder.encode_texts(captions)
    density = {RETRIEVAL_SET: _density(image)}
    counts = {RETRIEVAL_SET: len(image)}
    zeroshot = {}
    classes = _classes(data)
    for name in ZEROSHOT_SETS:
        samples, code = _codes(encoder, data, f"zeroshot/{name}-test.tar")
        names = classes[name]
        label = torch.tensor([names.index(str(s.label)) for s in samples])
        codes = class_codes(names, encoder.encode_texts)
        zeroshot[name] = accuracy(unit(code), codes, label)
        density[name], counts[name] = _density(code), len(code)
    return EncoderReport(
        recall(unit(text), unit(image), torch.tensor(owner)),
        zeroshot,
        density,
        _density(text),
        counts,
    )


def _codes(encoder: SparseEncoder, data: Path, pattern: str) -> tuple[list[Sample], Tensor]:
    images = cached_images(
        find_shards(data, pattern), encoder.image_trunk, encoder.config.image_trunk
    )
    return images.samples, encoder.image_head(images.pooled())


def _density(code: Tensor) -> float:
    return float((code > 0).float().mean())


def _classes(data: Path) -> dict[str, list[str]]:
    path = data / "zeroshot" / "classes.json"
    try:
        classes: dict[str, list[str]] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SparsightError(
            f"cannot read the class names in {path}: {error}", param="data"
        ) from error
    return classes
