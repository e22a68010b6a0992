"""What the training of heads reads: trunk vectors of photographs and of their texts, in memory.

Made once, it serves any number of heads: it depends on data and trunks, on no head.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.encoder_run import EncoderRun
from sparse_encoder.pairs import PairTable, make_pairs
from sparse_encoder.teacher import teacher_classes
from sparse_encoder.trunk_cache import CachedImages, cached_texts


@dataclass(frozen=True)
class HeadInputs:
    """Trunk vectors and which belong together. Read-only, so runs may share it."""

    trunk: Any  # the image trunk, whose classifier may be the teacher
    pairs: PairTable
    views: Tensor  # (views, images, width): the whole photograph, then random windows of it
    mean: Tensor  # (width,) over whole photographs
    deviation: Tensor
    text_vectors: Tensor  # (texts, text width) of the pairs' texts
    text_scale: float  # a text vector's entries have deviation about 1 after it, like an image's
    names: Tensor  # (classes, text width) of the teacher's classes, in a template
    bare_names: Tensor
    outputs: Tensor  # (classes,) the classifier's output of each; empty without a teacher

    @property
    def width(self) -> int:
        return self.views.shape[2]

    @property
    def text_width(self) -> int:
        return self.text_vectors.shape[1]


def head_inputs(encoder: SparseEncoder, images: CachedImages, run: EncoderRun) -> HeadInputs:
    """All vectors of `images`' samples and texts; those of texts are cached on disk as well.

    Of the run it reads seed, windows, weights of the pairs and the text trunk's name.
    """
    pairs = make_pairs(images.samples, run.label_weight, run.rule_weight)
    windows = np.random.default_rng((run.seed, 1))
    views = [images.pooled(), *(images.windows(windows) for _ in range(run.windows))]
    texts = _text_vectors(encoder, pairs.texts, run)
    names, outputs = teacher_classes(images.samples)
    return HeadInputs(
        trunk=encoder.image_trunk,
        pairs=pairs,
        views=torch.stack(views),
        mean=views[0].mean(0),
        deviation=views[0].std(0).clamp_min(1e-6),
        text_vectors=texts,
        text_scale=float(encoder.text_trunk.width**0.5 / texts.norm(dim=1).mean()),
        names=_text_vectors(encoder, [f"a photo of a {n}." for n in names], run),
        bare_names=_text_vectors(encoder, names, run),
        outputs=outputs,
    )


def _text_vectors(encoder: SparseEncoder, texts: list[str], run: EncoderRun) -> Tensor:
    if not texts:
        return torch.zeros(0, encoder.text_trunk.width)
    return cached_texts(texts, encoder.text_trunk, run.text_trunk)
