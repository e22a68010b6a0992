"""Steering by the features of a sparse autoencoder that was trained on the trunk's vectors.

The shipped captioner reads codes of the sparse head. An autoencoder of the trunk can steer it all the
same, one step earlier:

    trunk vector x -> code of the autoencoder -> edits -> x' = x + decode(edited) - decode(code)
    x' -> sparse head -> codes -> projector -> LLM

What the autoencoder does not explain of x stays in x' (Marks et al. 2024, arXiv 2403.19647, keep the
error so), so that without an edit the codes are those of `SparseEncoder.code_of_cells`, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.imported_sae import ImportedSae
from vlm.apply import AppliedEdit, apply_edits
from vlm.concepts import ResolvedEdit
from vlm.reach import DEFAULT_REACH, Reach


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
    after, applied = apply_edits(before, edits, reach=reach, param=param)
    codes = []
    for i, image in enumerate(cells.float()):
        rows, edited = before.image(i).dense(), after.image(i).dense()
        if torch.equal(rows, edited):
            codes.append(encoder.code_of_cells(image))
            continue
        vectors = torch.cat([image.mean(0, keepdim=True), image])
        codes.append(encoder.code_of_cells(image, sae.moved(vectors, rows, edited)))
    return SaeSteered(Codes.cat(codes), applied)


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
