"""The two trunks of a dense CLIP as a `SparseEncoder` takes them: one cell, the class token's vector.

The vector is CLIP's image embedding, or the residual stream after a block, where Prisma's
autoencoders were trained: ``blocks.9.hook_resid_post`` is the class token after the tenth of the blocks.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sparse_encoder.errors import SparsightError
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.text import Tokens
from sparse_encoder.towers.vision import ImageTrunk

_BLOCK = re.compile(r"blocks\.(\d+)\.hook_resid_post")
_EMBEDDING = ("", "embedding")  # an autoencoder of image embeddings names no hook


def block_of(hook: str) -> int | None:
    """The block after which `hook` reads, from 0; None for CLIP's image embedding.

    Raises SparsightError for any other place.
    """
    if hook in _EMBEDDING:
        return None
    found = _BLOCK.fullmatch(hook)
    if found is None:
        raise SparsightError(
            f"the autoencoder was trained at {hook!r}, which is not read; expected "
            "blocks.N.hook_resid_post, or embedding (or none) for CLIP's image embedding",
            param="sae",
            code="bad_sae",
        )
    return int(found.group(1))


class ClipImageTrunk(nn.Module):
    """Frozen; (batch, 1, width) of the class token at `block`, or of the image embedding."""

    grid = (1, 1)

    def __init__(self, clip: SparseClip, block: int | None) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.block = block
        n_blocks = self._shape.num_hidden_layers
        if block is not None and block >= n_blocks:
            raise SparsightError(
                f"the autoencoder was trained after block {block}, the CLIP's image tower has blocks "
                f"0 to {n_blocks - 1}: it is of another CLIP",
                param="sae",
                code="other_model",
            )

    @property
    def width(self) -> int:
        if self.block is None:
            return int(self.clip.image_head.weight.shape[1])
        return int(self._shape.hidden_size)

    @property
    def _shape(self) -> Any:
        return self._trunk.model.config

    @property
    def _trunk(self) -> ImageTrunk:
        trunk = self.clip.image_trunk
        if not isinstance(trunk, ImageTrunk):
            raise SparsightError("expected a CLIP with a vision transformer", param="model")
        return trunk

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        return self._trunk.preprocess(images)

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        if self.block is None:
            return self.clip.image_trunk_output(pixels)[:, None]
        output = self._trunk.model(pixel_values=pixels, output_hidden_states=True)
        states: Tensor = output.hidden_states[self.block + 1]  # the first are the embeddings
        return states[:, :1]

    def readout(self) -> Tensor:
        """(width, joint): what a direction at this place adds to the image embedding.

        The identity for the embedding itself. For the residual stream the last norm's weights and the
        projection, as if no later block read it and the norm divided by nothing: a first guess
        after the last block, a poorer one the earlier the block.
        """
        if self.block is None:
            return torch.eye(self.width)
        width = self.width
        centred = torch.eye(width) - 1 / width
        projection = self.clip.image_projection
        out: Tensor = centred * self._trunk.model.post_layernorm.weight.detach()
        return out @ projection.weight.detach().T if isinstance(projection, nn.Linear) else out


class ClipTextTrunk(nn.Module):
    """Frozen; text embeddings (texts, joint)."""

    def __init__(self, clip: SparseClip) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)

    @property
    def width(self) -> int:
        return int(self.clip.text_head.weight.shape[1])

    @torch.inference_mode()
    def forward(self, texts: Sequence[str]) -> Tensor:
        ids, mask = self.clip.text_trunk.tokenize(list(texts))
        return self.clip.text_trunk_output(Tokens(ids, mask))
