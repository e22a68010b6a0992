"""Steering by the features of a sparse autoencoder that was trained on the trunk's vectors.

The shipped captioner reads codes of the sparse head. An autoencoder of the trunk can steer it all the
same, one step earlier:

    trunk vector x -> code of the autoencoder -> edits -> x' = x + decode(edited) - decode(code)
    x' -> sparse head -> codes -> projector -> LLM

What the autoencoder does not explain of x stays in x' (Marks et al. 2024, arXiv 2403.19647, keep the
error so), so that without an edit the codes are those of `SparseEncoder.code_of_cells`, bit for bit.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.any_encoder import AnyEncoder
from sparse_encoder.codes import Codes
from sparse_encoder.encoder import SparseEncoder, head_codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from sparse_encoder.imported_sae import ImportedSae
from sparse_encoder.sae_encoder import SaeEncoder
from vlm.apply import AppliedEdit, apply_edits
from vlm.concepts import ResolvedEdit
from vlm.reach import DEFAULT_REACH, Reach

KEPT_IMAGES = 64  # images whose cells are kept, 0.4 MB each


@dataclass(frozen=True)
class SaeSteered:
    """Codes for the projector, and what was done to the autoencoder's features."""

    codes: Codes  # of the sparse head, global and cells
    applied: tuple[AppliedEdit, ...]  # features and activations are the autoencoder's


def sae_codes(sae: ImportedSae, cells: Tensor, grid: tuple[int, int]) -> Codes:
    """The autoencoder's codes of images: of the mean of the trunk's cells, then of each cell.

    cells: (images, rows * cols, width). Raises SparsightError for another width.
    """
    rows = torch.cat([cells.mean(1, keepdim=True), cells], dim=1)  # (images, 1 + cells, width)
    return Codes.cat([Codes.from_dense(sae.code(image), grid) for image in rows.float()])


@torch.no_grad()
def steer_through_sae(
    encoder: SparseEncoder,
    cells: Tensor,
    sae: ImportedSae,
    edits: Sequence[ResolvedEdit],
    *,
    reach: Reach = DEFAULT_REACH,
    param: str = "steering.edits",
) -> SaeSteered:
    """Codes of one request's images whose trunk vectors were edited through `sae`.

    cells: (images, rows * cols, width) of the encoder's image trunk. edits: on features of `sae`, as
    `vlm.concepts.resolve` gives them with the autoencoder's own atlas. Where they reach, and what they
    do to the mean vector's code, is as for any edit (`apply_edits`). An image that no edit changes
    has the very codes of `code_of_cells`. Raises SparsightError for another width or grid, for a
    dense head, and for edits that `apply_edits` refuses.
    """
    _check(encoder, cells, sae)
    before = sae_codes(sae, cells, encoder.grid)
    edited, applied = apply_edits(before, edits, reach=reach, param=param)
    after = edited.codes
    codes = [
        encoder.code_of_cells(image, _moved(sae, image, before.image(i), after.image(i)))
        for i, image in enumerate(cells.float())
    ]
    return SaeSteered(Codes.cat(codes), applied)


class ReadThroughSae:
    """What a captioner reads of images whose codes are an autoencoder's: codes of the heads under it.

    For models that `import_sae` made of one with a captioner. Keeps the trunk's cells of images
    seen lately. Not safe for threads.
    """

    def __init__(self, encoder: SaeEncoder) -> None:
        """Raises SparsightError where the autoencoder is on no trunk of ours."""
        if encoder.dense_head is None:
            raise SparsightError(
                "this autoencoder reads another CLIP, whose vectors no captioner here reads; import "
                "one that was trained on the model's own image trunk",
                param="model",
            )
        self.encoder, self.head = encoder, encoder.dense_head
        self._cells: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def __call__(self, images: Sequence[DecodedImage], before: Codes, after: Codes) -> Codes:
        """Codes of the heads; before, after: the autoencoder's codes of the images, and edited."""
        found = []
        for i, image in enumerate(images):
            cells = self._cells_of(image)
            moved = _moved(self.encoder.sae, cells, before.image(i), after.image(i))
            found.append(head_codes(self.head, cells, self.encoder.grid, moved))
        return Codes.cat(found)

    def _cells_of(self, image: DecodedImage) -> Tensor:
        if image.sha256 not in self._cells:
            pixels = self.encoder.preprocess(image.pixels)[None]
            self._cells[image.sha256] = self.encoder.image_trunk(pixels)[0].float()
        self._cells.move_to_end(image.sha256)
        while len(self._cells) > KEPT_IMAGES:
            self._cells.popitem(last=False)
        return self._cells[image.sha256]


def read_features(encoder: AnyEncoder) -> int:
    """Features of the codes that a captioner on this encoder reads."""
    if isinstance(encoder, SaeEncoder):
        return len(ReadThroughSae(encoder).head.weight)
    return encoder.config.features


def _moved(sae: ImportedSae, cells: Tensor, before: Codes, after: Codes) -> Tensor | None:
    """What an edit of one image's codes adds to its vectors (1 + cells, width); None for nothing."""
    rows, edited = before.dense(), after.dense()
    if torch.equal(rows, edited):
        return None
    return sae.moved(torch.cat([cells.mean(0, keepdim=True), cells]), rows, edited)


def _check(encoder: SparseEncoder, cells: Tensor, sae: ImportedSae) -> None:
    n_cells, width = encoder.grid[0] * encoder.grid[1], encoder.image_trunk.width
    if cells.ndim != 3 or cells.shape[1:] != (n_cells, width):
        raise SparsightError(
            f"the trunk's cells have shape {tuple(cells.shape)}, expected (images, {n_cells}, "
            f"{width}) of {encoder.config.image_trunk}",
            param="cells",
        )
    if sae.width != width:
        raise SparsightError(
            f"the autoencoder takes vectors of {sae.width} entries, the image trunk "
            f"{encoder.config.image_trunk} gives {width}: it was trained on another encoder or "
            f"layer ({sae.hook or 'unknown'})",
            param="sae",
            code="other_model",
        )
    if not len(cells):
        raise SparsightError("there is no image to steer; give the cells of at least one")
