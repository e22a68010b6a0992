"""A hand-made atlas of twelve features and a text encoder that knows a few words."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas

NAMES = ["dog", "cat", "pet", "man", "woman", "ghost", "indoors", "Fire Truck", "", "", "", ""]
WORDS: dict[str, dict[int, float]] = {
    "dog": {0: 1.0, 2: 0.5, 8: 0.3, 5: 0.9, 6: 0.8},  # 5 is dead, 6 is active on half of all images
    "cat": {1: 1.0, 2: 0.6, 9: 0.2},
    "man": {3: 1.0, 10: 0.4},
    "woman": {4: 1.0, 10: 0.4},
    "phantom": {5: 1.0},
    "room": {6: 1.0},
    "fire": {7: 0.7},
    "truck": {7: 0.9},
}


@pytest.fixture(scope="session")
def tiny_atlas() -> FeatureAtlas:
    n = len(NAMES)
    density = np.full(n, 0.05, dtype=np.float32)
    density[5], density[6] = 0.0, 0.5
    p99 = np.linspace(1.0, 2.1, n, dtype=np.float32)  # feature i has p99 1 + i / 10
    p99[5] = 0.0
    return FeatureAtlas(
        fingerprint="f" * 64,
        names=list(NAMES),
        runner_up=[[] for _ in NAMES],
        name_score=np.ones(n, dtype=np.float32),
        density=density,
        p50=p99 / 4,
        p90=p99 / 2,
        p99=p99,
        max=p99 * 1.5,
        modality=np.full(n, 0.5, dtype=np.float32),
        vocabulary=frozenset([*WORDS, "dogs", "hot", "t"]),
    )


@pytest.fixture(scope="session")
def fake_encode_text() -> Callable[[list[str]], Tensor]:
    def encode(texts: list[str]) -> Tensor:
        codes = torch.zeros(len(texts), len(NAMES))
        for row, text in zip(codes, texts, strict=True):
            for word in text.strip(".").split():
                for feature, activation in WORDS.get(word, {}).items():
                    row[feature] += activation
        return codes

    return encode
