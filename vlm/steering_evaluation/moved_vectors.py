"""How dense vectors reach the same language model: they are moved before the frozen sparse head.

    trunk vector x -> x' = x + move -> sparse head -> codes -> projector -> LLM

The captioner reads codes of the sparse head and nothing else, so a baseline on dense vectors passes
through that head too. Without a move the codes are the encoder's own, bit for bit.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.image import DecodedImage

KEPT_IMAGES = 400  # 0.4 MB each


@dataclass(frozen=True)
class TrunkCells:
    """Trunk cells (cells, width) of photographs; those seen lately are kept."""

    encoder: SparseEncoder
    _kept: OrderedDict[str, Tensor] = field(default_factory=OrderedDict, repr=False)

    @torch.inference_mode()
    def __call__(self, image: DecodedImage) -> Tensor:
        if image.sha256 not in self._kept:
            trunk = self.encoder.image_trunk
            self._kept[image.sha256] = trunk(trunk.preprocess([image.pixels]))[0]
            if len(self._kept) > KEPT_IMAGES:
                self._kept.popitem(last=False)
        return self._kept[image.sha256]


@dataclass(frozen=True)
class MovedBy:
    """Every vector of a photograph moved alike; a ``vlm.answer_batches.CodesOf``."""

    cells: TrunkCells
    move: Tensor  # (width,)
    way: str

    @property
    def name(self) -> str:
        """With a digest of the move, since kept answers are found by this name."""
        return f"{self.way} {digest(self.move)}"

    @torch.inference_mode()  # the head's weights ask for gradients; the kept cells can have none
    def __call__(self, image: DecodedImage) -> Codes:
        moved = self.move[None] if bool(self.move.any()) else None
        return self.cells.encoder.code_of_cells(self.cells(image), moved)


def digest(*tensors: Tensor) -> str:
    """Sixteen letters that tell tensors apart."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
