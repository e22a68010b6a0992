"""A dense encoder with the features of a sparse autoencoder as its codes.

Its folder looks like any model's, so that an atlas of it is built, searched and shown as of a sparse
encoder: ``config.json`` with a part ``sae``, the autoencoder (``sae/``), and the dense encoder: our
heads (``encoder.safetensors``) or a whole CLIP (``clip/``).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparse_encoder.clip_trunks import ClipImageTrunk, ClipTextTrunk, block_of
from sparse_encoder.codes import Codes
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead
from sparse_encoder.imported_sae import ImportedSae
from sparse_encoder.towers.hub import load as load_clip
from sparse_encoder.wheel import Progress

SAE, CLIP = "sae", "clip"  # folders of the autoencoder and of a dense CLIP, inside of the model's


class SaeHead(nn.Module):
    """`ImportedSae.code` where a `SparseHead` is expected. Read-only."""

    activation, hidden = "sae", None

    def __init__(self, sae: ImportedSae) -> None:
        super().__init__()
        self.sae = sae
        self.register_buffer("weight", sae.encoder.T.contiguous(), persistent=False)

    weight: Tensor  # (features, width), by which features are alike

    def forward(self, x: Tensor) -> Tensor:
        """Codes (..., features) of dense vectors (..., width)."""
        return self.sae.code(x)


class SaeTextHead(nn.Module):
    """A text's activation of a feature: the cosine of the text with what the feature's direction adds
    to the joint space of images and texts, 0 where below (Discover-then-Name, arXiv 2407.14499).

    The direction is the decoder's row through `readout` (width, joint), the way that an image's dense
    vector takes into that space.
    """

    def __init__(self, sae: ImportedSae, joint: nn.Module, readout: Tensor) -> None:
        """joint: text trunk vectors (texts, text width) to the joint space (texts, joint)."""
        super().__init__()
        self.joint = joint
        self.decoder, self.readout = sae.decoder, readout
        # |d R|, without the product of features x joint, which may be 55,296 x 55,296.
        square = (sae.decoder @ (readout @ readout.T)) * sae.decoder
        self.length = square.sum(1).clamp(min=1e-24).sqrt()  # (features,)

    def forward(self, vectors: Tensor) -> Tensor:
        text = functional.normalize(self.joint(vectors).float(), dim=-1)
        cosine: Tensor = (text @ self.readout.T) @ self.decoder.T / self.length
        return cosine.clamp(0, 1)


class SaeEncoder(SparseEncoder):
    """Read-only, so threads may share it. Codes are the autoencoder's of trunk vectors."""

    def __init__(
        self, config: EncoderConfig, sae: ImportedSae, image_trunk: Any, text_trunk: Any, text: Any
    ) -> None:
        """config: of the dense encoder; text: the head that text trunk vectors go through."""
        super().__init__(EncoderConfig(features=1), image_trunk, text_trunk)
        self.config = replace(config, features=sae.n_features, activation="relu", k=0, hidden=0)
        self.sae = sae
        self.dense_head: SparseHead | None = None  # of the trunk under it, where that is ours
        self.image_head: Any = SaeHead(sae)
        self.text_head: Any = text
        self.eval()

    @classmethod
    def on_heads(cls, sae: ImportedSae, dense: SparseEncoder) -> "SaeEncoder":
        """On the trunk of one of our encoders; its heads say what texts a direction answers to."""
        head = dense.image_head
        if head.hidden is not None:
            raise SparsightError(
                "this encoder's image head has a hidden layer, so a direction of its trunk has no "
                "fixed place in its codes; give an encoder without one",
                param="model",
            )
        if sae.width != head.weight.shape[1]:
            raise _other_width(sae, head.weight.shape[1])
        text = SaeTextHead(sae, dense.text_head, head.weight.detach().T)
        made = cls(dense.config, sae, dense.image_trunk, dense.text_trunk, text)
        made.dense_head = head
        return made

    @classmethod
    def on_clip(cls, sae: ImportedSae, clip: Any, name: str) -> "SaeEncoder":
        """On a dense CLIP. name: of its weights, under which trunk outputs are cached."""
        image, texts = ClipImageTrunk(clip, block_of(sae.hook)), ClipTextTrunk(clip)
        if sae.width != image.width:
            raise _other_width(sae, image.width)
        place = "embedding" if image.block is None else f"block{image.block}"
        config = EncoderConfig(sae.n_features, f"clip-{name}-{place}", f"clip-{name}")
        text = SaeTextHead(sae, nn.Identity(), image.readout())
        return cls(config, sae, image, texts, text)

    @classmethod
    def load_imported(cls, folder: Path, progress: Progress | None = None) -> "SaeEncoder":
        """From a folder that `import_sae` wrote."""
        sae = ImportedSae.load(folder / SAE)
        config = json.loads((folder / "config.json").read_text())
        if (folder / CLIP).is_dir():
            return cls.on_clip(sae, load_clip(folder / CLIP), config["sae"]["dense"][:16])
        return cls.on_heads(sae, SparseEncoder.load_heads(folder, progress))

    def code_of_cells(self, cells: Tensor, moved: Tensor | None = None) -> Codes:
        """Codes of one image from its trunk cells (cells, width): of their mean, then of each.

        moved: (1 + cells, width), added to these vectors first.
        """
        rows = torch.cat([cells.mean(0, keepdim=True), cells]).float()
        return Codes.from_dense(self.sae.code(rows if moved is None else rows + moved), self.grid)


def _other_width(sae: ImportedSae, width: int) -> SparsightError:
    return SparsightError(
        f"the autoencoder takes vectors of {sae.width} entries, the dense encoder gives {width} at "
        f"{sae.hook or 'its output'}: it was trained on another encoder or layer",
        param="sae",
        code="other_model",
    )
