"""Text codes that stand in for image codes, so that captions without pictures can teach.

The two towers share features but not scales: on average a feature is as strong in images as in
captions only after its text activation is multiplied by the ratio of the two means. What is left
of the gap is covered by noise: features dropped, doubled or halved, and a faint other image mixed in.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.codes import Codes


@dataclass(frozen=True)
class TextCodeNoise:
    """How far a text code is bent to look like an image's."""

    drop: float = 0.1  # share of active features that are left out
    spread: float = 0.3  # deviation of the log of each activation
    other: float = 0.5  # share of codes into which another image's code is mixed
    other_weight: float = 0.3  # at most this times the other code


class TextCodes:
    """Makes codes of one row from the text tower's pooled vectors."""

    def __init__(self, image_mean: Tensor, text_mean: Tensor, noise: TextCodeNoise) -> None:
        """image_mean, text_mean: mean activation of each feature over images and over captions."""
        ratio = image_mean / text_mean.clamp_min(1e-6)
        # A feature that one tower hardly uses has no meaningful ratio.
        self.scale = ratio.clamp(0.25, 4.0)
        self.noise = noise

    def plain(self, code: Tensor) -> Codes:
        """A text code (features,) at image scale, without noise."""
        return Codes.from_dense((code * self.scale)[None])

    def noisy(self, code: Tensor, other: Tensor | None, random: np.random.Generator) -> Codes:
        """The same bent by noise; other: dense global code of some image, or None."""
        seed = int(random.integers(2**31))
        generator = torch.Generator().manual_seed(seed)
        out = code * self.scale
        out = out * (torch.rand(out.shape, generator=generator) >= self.noise.drop)
        out = out * (torch.randn(out.shape, generator=generator) * self.noise.spread).exp()
        if other is not None and random.random() < self.noise.other:
            out = out + other * float(random.uniform(0, self.noise.other_weight))
        return Codes.from_dense(out[None])
