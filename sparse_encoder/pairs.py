"""Image-text pairs for the contrastive loss, drawn from captioned and labelled photographs."""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_encoder.dataset import Sample
from sparse_encoder.templates import LABEL_TEMPLATES


@dataclass(frozen=True)
class PairTable:
    """The texts of each sample, as numbers of rows in one list of distinct texts."""

    texts: list[str]
    of_sample: list[NDArray[np.int64]]
    group: Tensor  # (samples,) equal where two samples share their label
    weight: NDArray[np.float64]  # chance of each sample, sums to 1
    n_pairs: float  # pairs an epoch

    def draw(self, n: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """n (sample, text) pairs, with replacement."""
        sample = random.choice(len(self.of_sample), n, p=self.weight)
        text = [self.of_sample[i][random.integers(len(self.of_sample[i]))] for i in sample]
        return torch.from_numpy(sample), torch.tensor(np.array(text))


def make_pairs(
    samples: Sequence[Sample], label_weight: float, rule_weight: float, templates: bool = True
) -> PairTable:
    """Pairs of all samples with a caption or a label.

    label_weight, rule_weight: how often a labelled photograph and one whose captions were made by
    rule are drawn, where a photograph with human captions counts 5, one for each caption.
    """
    number: dict[str, int] = {}
    of_sample, group, weight = [], [], []
    for i, sample in enumerate(samples):
        texts = _texts(sample, templates)
        of_sample.append(np.array([number.setdefault(t, len(number)) for t in texts]))
        # Labelled samples of one label are all positives of each other's texts.
        group.append(-1 - i if sample.label is None else crc32(sample.label.encode()))
        if sample.label is not None:
            weight.append(label_weight)
        else:
            weight.append(rule_weight if sample.captions_by_rule else 5.0)
        if not texts:
            weight[-1] = 0.0
    chances = np.array(weight)
    return PairTable(
        list(number), of_sample, torch.tensor(group), chances / chances.sum(), chances.sum()
    )


def _texts(sample: Sample, templates: bool) -> list[str]:
    if sample.label is None:
        return list(sample.captions)
    labels = [sample.label]
    if sample.detail and sample.detail != sample.category:
        # One draw in four says the variety ("Royal Gala"), the others the thing ("apple").
        labels = [sample.label] * 3 + [sample.detail]
    forms = LABEL_TEMPLATES if templates else ("{}",)
    return [form.format(label) for label in labels for form in forms]
