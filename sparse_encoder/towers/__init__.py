"""Sparse CLIP on any trunks: build, start from a trained CLIP, export to the Hugging Face layout.

Importing this package lets ``transformers.AutoModel.from_pretrained`` load what `export` wrote.
"""

from sparse_encoder.towers.config import ImageTowerConfig, SparseClipConfig, TextTowerConfig
from sparse_encoder.towers.hub import SparseClipHubConfig, SparseClipModel, export, load, register
from sparse_encoder.towers.model import SparseClip, SparseClipCodes
from sparse_encoder.towers.presets import TOWER_PRESETS, tower_preset
from sparse_encoder.towers.start_from import start_from
from sparse_encoder.towers.text import Tokens
from sparse_encoder.towers.tokenizer import train_tokenizer

__all__ = [
    "TOWER_PRESETS",
    "ImageTowerConfig",
    "SparseClip",
    "SparseClipCodes",
    "SparseClipConfig",
    "SparseClipHubConfig",
    "SparseClipModel",
    "TextTowerConfig",
    "Tokens",
    "export",
    "load",
    "start_from",
    "tower_preset",
    "train_tokenizer",
]

register()
