"""Tiny random trunks with the real ones' interface: for tests of mechanics, not of behaviour."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


class TinyImageTrunk(nn.Module):
    """One random convolution: 12 x 12 pixels to 3 x 3 cells of 16."""

    width = 16
    grid = (3, 3)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, self.width, kernel_size=4, stride=4, bias=False)
        weight = torch.randn(self.net.weight.shape, generator=torch.Generator().manual_seed(1))
        self.net.weight.data = weight
        self.requires_grad_(False)

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        arrays = [np.asarray(image.resize((12, 12))) for image in images]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1

    def forward(self, pixels: Tensor) -> Tensor:
        """Cells (batch, 9, 16)."""
        cells: Tensor = self.net(pixels).flatten(2).transpose(1, 2)
        return cells


class TinyTextTrunk(nn.Module):
    """The mean of a fixed random vector for each word."""

    width = 8

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Pooled vectors (texts, 8)."""
        return torch.stack(
            [torch.stack([_word(w) for w in t.split() or [""]]).mean(0) for t in texts]
        )


def _word(word: str) -> Tensor:
    seed = crc32(word.strip(".,?!").lower().encode())
    return torch.randn(TinyTextTrunk.width, generator=torch.Generator().manual_seed(seed))
