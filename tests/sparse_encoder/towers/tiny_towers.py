"""Small random towers, and the folders of small random backbones, for the tests of towers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, CLIPConfig, CLIPModel

from sparse_encoder.towers import SparseClip, SparseClipConfig, tower_preset
from sparse_encoder.towers.config import ImageTowerConfig, TextTowerConfig
from sparse_encoder.towers.tokenizer import byte_tokenizer

TEXTS = ["a dog", "two cats sleep on a red mat", "x"]
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
PIXELS = {"mean": (0.5, 0.5, 0.5), "deviation": (0.5, 0.5, 0.5)}


def image_config(**changes: Any) -> ImageTowerConfig:
    return replace(tower_preset("vit-tiny-8x").image, **changes)


def text_config(**changes: Any) -> TextTowerConfig:
    return replace(tower_preset("vit-tiny-8x").text, **changes)


def tiny_clip(seed: int = 0, **changes: Any) -> SparseClip:
    """Two trunks of two layers, 32 wide, and 128 features; equal at every call."""
    config: SparseClipConfig = replace(tower_preset("vit-tiny-8x"), **changes)
    return seeded(lambda: SparseClip.build(config), seed).eval()


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def photos(n: int = 3, size: tuple[int, int] = (40, 56)) -> list[Image.Image]:
    random = np.random.default_rng(n)
    return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(n)]


def pixels(n: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(n))


def save_backbone(folder: Path, model_type: str, **shape: Any) -> str:
    """A folder with a random model of transformers; text models get the byte tokenizer."""
    model = seeded(lambda: AutoModel.from_config(AutoConfig.for_model(model_type, **shape)))
    model.save_pretrained(folder)
    if "vocab_size" in shape:
        byte_tokenizer().save_pretrained(folder)
    return str(folder)


def dense_clip(seed: int = 0) -> CLIPModel:
    """A random CLIP of transformers, 16 joint dimensions, over the byte tokenizer."""
    vision = SHAPE | {"image_size": 32, "patch_size": 8}
    tokenizer = byte_tokenizer()
    marks = {f"{m}_token_id": getattr(tokenizer, f"{m}_token_id") for m in ("bos", "eos", "pad")}
    text = SHAPE | {"vocab_size": len(tokenizer), "max_position_embeddings": 24} | marks
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    return seeded(lambda: CLIPModel(config), seed).eval()


def save_dense_clip(folder: Path, **processor: Any) -> CLIPModel:
    """`dense_clip` in the Hugging Face layout."""
    clip = dense_clip()
    clip.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return clip
