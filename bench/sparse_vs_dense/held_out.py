"""The held-out sets as trunk vectors, read once, and the figures of codes made from them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse_encoder.activations import identity
from sparse_encoder.contrastive import unit
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.evaluation.clarity import ClarityStats
from sparse_encoder.evaluation.code_rows import CodeRows
from sparse_encoder.evaluation.evaluate import (
    RETRIEVAL_SET,
    ZEROSHOT_SETS,
    class_names,
    read_classes,
)
from sparse_encoder.evaluation.evaluated import FrozenTrunkEncoder
from sparse_encoder.evaluation.image_set import ImageSet, read_image_set
from sparse_encoder.evaluation.independent_embedding import DEFAULT, load_embedding
from sparse_encoder.evaluation.monosemanticity import MonoSemanticityStats
from sparse_encoder.evaluation.retrieval import recall
from sparse_encoder.evaluation.sparsity import SparsityStats
from sparse_encoder.evaluation.zeroshot import accuracy, label_index
from sparse_encoder.templates import ZEROSHOT_TEMPLATES

ToCodes = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Model:
    """Raw trunk vectors (inputs, width) to codes, and codes to what is compared with texts."""

    code: ToCodes  # of images: its features are counted and judged
    text: ToCodes
    features: int
    parameters: int  # trained ones
    decode: ToCodes = identity  # of image codes; an SAE's reconstruction is dense, its code sparse

    def image(self, x: Tensor) -> Tensor:
        """What is compared with `text` by cosine."""
        return self.decode(self.code(x))


@dataclass(frozen=True)
class LabelledSet:
    images: ImageSet
    label: Tensor  # (images,) place in the set's class names
    names: list[Tensor]  # text vectors (classes, width) of each template


@dataclass(frozen=True)
class HeldOut:
    """Trunk vectors of all sets. Read-only."""

    photographs: ImageSet  # with captions
    captions: Tensor  # (captions, text width)
    owner: Tensor  # (captions,) photograph of each
    labelled: dict[str, LabelledSet]


def read_held_out(encoder: SparseEncoder, data: Path) -> HeldOut:
    """Vectors from the trunks of `encoder`, with the independent embedding that judges features."""
    evaluated, embedding = FrozenTrunkEncoder(encoder), load_embedding(DEFAULT)
    photographs = read_image_set(
        evaluated, data, RETRIEVAL_SET, f"{RETRIEVAL_SET}-*.tar", embedding
    )
    captions, owner = photographs.captions()
    labelled, classes = {}, read_classes(data)
    for name in ZEROSHOT_SETS:
        images = read_image_set(evaluated, data, name, f"zeroshot/{name}-test.tar", embedding)
        names = class_names(classes, name)
        label = label_index([s.label for s in images.samples], names, name)
        texts = [evaluated.text_vectors([t.format(n) for n in names]) for t in ZEROSHOT_TEMPLATES]
        labelled[name] = LabelledSet(images, label, texts)
    return HeldOut(photographs, evaluated.text_vectors(captions), torch.tensor(owner), labelled)


def trunks() -> SparseEncoder:
    """The frozen mini trunks; the heads of this encoder are not used."""
    return SparseEncoder.build(EncoderConfig(features=1))


@torch.no_grad()
def measure(model: Model, held_out: HeldOut) -> dict[str, float]:
    """Shares in [0, 1]: R@k by `recall`'s keys, top-1 by set and of all labelled photographs
    together (``zeroshot``); L0 and its kin at threshold 0, Clarity at 0.001, over all photographs.
    What is undefined, as Clarity without two photographs for any feature, is left out.
    """
    stats = _FeatureStats(model.features, held_out.photographs.embedding.shape[1])
    texts = CodeRows(held_out.captions, model.text)
    photographs = held_out.photographs
    out = recall(texts, CodeRows(photographs.rows.vectors, model.image), held_out.owner)
    for index, code in CodeRows(photographs.rows.vectors, model.code).batches():
        stats.add(code, photographs.embedding[index])
    hits = n = 0.0
    for name, one in held_out.labelled.items():
        classes = unit(torch.stack([unit(model.text(t)) for t in one.names]).sum(0))
        found = 0.0
        for index, code in CodeRows(one.images.rows.vectors, model.code).batches():
            stats.add(code, one.images.embedding[index])
            found += accuracy(unit(model.decode(code)), classes, one.label[index]) * len(index)
        out[name] = found / len(one.label)
        hits, n = hits + found, n + len(one.label)
    own = {"features": float(model.features), "parameters": float(model.parameters)}
    return {**out, "zeroshot": hits / n, **own, **stats.summary()}


class _FeatureStats:
    """L0, dead features, Clarity and MonoSemanticity of codes, batch by batch."""

    def __init__(self, n_features: int, width: int) -> None:
        self.sparsity = SparsityStats(n_features, thresholds=(0.0,))
        self.clarity = ClarityStats(n_features, width)
        self.mono = MonoSemanticityStats(n_features, width)

    def add(self, code: Tensor, embedding: Tensor) -> None:
        self.sparsity.add(code.abs())  # a dense head's feature is active below zero, too
        self.clarity.add(code, embedding)
        self.mono.add(code, embedding)

    def summary(self) -> dict[str, float]:
        counts, clear = self.sparsity.summary(0.0), self.clarity.summary()
        judged = {
            "clarity": clear.mean,
            "clarity_lift": clear.lift,
            "monosemanticity": self.mono.summary().mean,
        }
        return {
            "images": float(counts.n_inputs),
            "l0": counts.l0,
            "density": counts.density,
            "dead": float(counts.dead_features),
            "empty": float(counts.empty_inputs),
            **{name: value for name, value in judged.items() if value is not None},
        }
