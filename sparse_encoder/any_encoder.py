"""The encoder of a folder, whichever of the two kinds it is: frozen trunks with heads, or whole towers."""

import json
from pathlib import Path

from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.towers.photo_encoder import PhotoEncoder, load_photo_encoder
from sparse_encoder.wheel import Progress

AnyEncoder = SparseEncoder | PhotoEncoder
TOWERS = "encoder"  # folder of a model's own towers, as its config.json names it


def load_encoder(folder: Path, progress: Progress | None = None) -> AnyEncoder:
    """Of a model's or an encoder's folder, of an exported sparse CLIP, or of a dense CLIP.

    Raises SparsightError for any other folder.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise SparsightError(
            f"cannot read {folder / 'config.json'} ({error}); expected the folder of an encoder",
            param="encoder",
        ) from error
    if "encoder" not in config:
        return load_photo_encoder(folder)
    if config["encoder"].get("folder"):
        return load_photo_encoder(folder / config["encoder"]["folder"])
    encoder = SparseEncoder.load(folder, progress)
    if config.get("run", {}).get("activation") == "identity":
        # A dense head has the same weights as a sparse one; read with a ReLU it would be another.
        encoder.image_head.activation = encoder.text_head.activation = "identity"
    return encoder


def is_dense(encoder: AnyEncoder) -> bool:
    """Whether the codes are dense, so that no feature of them can be steered."""
    return encoder.image_head.activation == "identity"
