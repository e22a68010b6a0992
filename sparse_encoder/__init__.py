"""Sparse codes of images and texts: encode, train, evaluate, name features.

Names are imported when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_encoder.atlas import FeatureAtlas as FeatureAtlas
    from sparse_encoder.codes import Codes as Codes
    from sparse_encoder.encoder import EncoderConfig as EncoderConfig
    from sparse_encoder.encoder import SparseEncoder as SparseEncoder
    from sparse_encoder.errors import SparsightError as SparsightError
    from sparse_encoder.evaluation.evaluate import evaluate_encoder as evaluate_encoder
    from sparse_encoder.image import DecodedImage as DecodedImage
    from sparse_encoder.image import decode_image as decode_image
    from sparse_encoder.image import open_image as open_image
    from sparse_encoder.train import train_encoder as train_encoder

_HOMES = {
    "Codes": "codes",
    "DecodedImage": "image",
    "EncoderConfig": "encoder",
    "FeatureAtlas": "atlas",
    "SparseEncoder": "encoder",
    "SparsightError": "errors",
    "decode_image": "image",
    "evaluate_encoder": "evaluation.evaluate",
    "open_image": "image",
    "train_encoder": "train",
}

__all__ = [
    "Codes",
    "DecodedImage",
    "EncoderConfig",
    "FeatureAtlas",
    "SparseEncoder",
    "SparsightError",
    "decode_image",
    "evaluate_encoder",
    "open_image",
    "train_encoder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
