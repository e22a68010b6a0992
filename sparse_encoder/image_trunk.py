"""Image trunk of `sparsight-mini`: EfficientNet-Lite2 up to its last map, 9 x 9 cells of 1280."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class EfficientNetLite(nn.Module):
    """Frozen. The whole photograph is squashed to 260 x 260, so that cells and regions cover all
    of it; the last map's mean is the pooled vector."""

    width = 1280
    grid = (9, 9)
    size = 260

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = EfficientNet.from_name("efficientnet-lite2")
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> "EfficientNetLite":
        """From a folder with ``model.safetensors`` (keys of efficientnet-lite-pytorch)."""
        trunk = cls()
        trunk.net.load_state_dict(load_file(folder / "model.safetensors"))
        trunk._fuse()
        return trunk

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of any size to (batch, 3, 260, 260), scaled as the TensorFlow original was.

        Measured on ImageNet samples: (x - 127) / 128 gives 80 % top-1, torchvision's mean and
        deviation 68 %.
        """
        side = (self.size, self.size)
        arrays = [np.asarray(image.resize(side, Image.Resampling.BICUBIC)) for image in images]
        return (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() - 127) / 128

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """Cells (batch, 81, 1280) in reading order; the pooled vector is their mean."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        last_map: Tensor = self.net.extract_features(pixels)  # (batch, 1280, 9, 9)
        return last_map.flatten(2).transpose(1, 2).contiguous()

    def classify(self, pooled: Tensor) -> Tensor:
        """ImageNet logits (batch, 1000), in the order of sorted WordNet ids; a teacher's view."""
        logits: Tensor = self.net._fc(pooled)
        return logits

    def _fuse(self) -> None:
        """Folds each batch norm, and what padding is the same on both sides, into its convolution:
        the same map, a third faster on a CPU."""
        pairs = [(self.net, "_conv_stem", "_bn0"), (self.net, "_conv_head", "_bn1")]
        for block in self.net._blocks:
            if hasattr(block, "_expand_conv"):
                pairs.append((block, "_expand_conv", "_bn0"))
            pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
        for owner, conv, norm in pairs:
            setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
            setattr(owner, norm, nn.Identity())
        for conv in self.net.modules():
            pad = getattr(conv, "static_padding", None)
            if isinstance(pad, nn.ZeroPad2d) and pad.padding[::2] == pad.padding[1::2]:
                conv.padding, conv.static_padding = pad.padding[2::-2], nn.Identity()
        self.net.to(memory_format=torch.channels_last)
