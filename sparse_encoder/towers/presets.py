"""Sparse CLIP models by name: the paper's two, a small one for a CPU, a tiny one for tests.

From the paper (Qin et al. 2026, arXiv 2601.20075): the trunks, 224 x 224 pixels, the widths, ReLU,
and the caps of the large models. Not in it, and so OpenCLIP's or ours: the bias (0), one head for
each tower, the plain projection kept before it, and the small model's cap (OpenCLIP's 100).
"""

from sparse_encoder.errors import SparsightError
from sparse_encoder.towers.config import ImageTowerConfig, SparseClipConfig, TextTowerConfig

TOWER_PRESETS = {
    "vit-b32-32x": SparseClipConfig(
        image=ImageTowerConfig(width=768, layers=12, heads=12, patch=32, size=224, projection=512),
        text=TextTowerConfig(width=512, layers=12, heads=8, tokenizer="clip", projection=512),
        expansion=32.0,  # 512 -> 16,384
    ),
    "vit-l14-72x": SparseClipConfig(
        image=ImageTowerConfig(width=1024, layers=24, heads=16, patch=14, size=224, projection=768),
        text=TextTowerConfig(width=768, layers=12, heads=12, tokenizer="clip", projection=768),
        expansion=72.0,  # 768 -> 55,296
        cap=50.0,  # "Sparse"; "Sparse+" has 40
    ),
    "vit-small-scratch": SparseClipConfig(
        image=ImageTowerConfig(
            backbone="vit",
            width=192,
            layers=6,
            heads=3,
            patch=16,
            size=64,
            pool="mean",
            projection=192,
        ),
        # The mean over words began to learn after 40 steps of 128 pairs; bytes, read at the end
        # mark, had not begun after 110.
        text=TextTowerConfig(
            width=192,
            layers=2,
            heads=3,
            max_tokens=24,
            tokenizer="clip",
            pool="mean",
            projection=192,
        ),
        features=2_048,
    ),
    "vit-tiny-8x": SparseClipConfig(
        image=ImageTowerConfig(width=32, layers=2, heads=2, patch=8, size=32, projection=16),
        text=TextTowerConfig(
            width=32, layers=2, heads=2, max_tokens=32, tokenizer="bytes", projection=16
        ),
        expansion=8.0,
    ),
}


def tower_preset(name: str) -> SparseClipConfig:
    """The preset `name`; raises SparsightError, which lists the names, where there is none."""
    if name not in TOWER_PRESETS:
        raise SparsightError(
            f"no preset {name!r}; known: {', '.join(TOWER_PRESETS)}", param="preset"
        )
    return TOWER_PRESETS[name]
