"""Steering through an autoencoder of the trunk: the sparse head's codes of the moved vectors."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.imported_sae import ImportedSae
from vlm.concepts import ResolvedEdit
from vlm.edits import Edit
from vlm.sae_steering import sae_codes, steer_through_sae

WIDTH, FEATURES, N_CELLS = 16, 40, 9
LEFT = (0.0, 0.0, 0.5, 1.0)
seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def encoder() -> SparseEncoder:
    torch.manual_seed(0)
    built = SparseEncoder.build(EncoderConfig(64, "tiny", "tiny"))
    torch.nn.init.zeros_(built.image_head.bias)
    return built.requires_grad_(False)


def an_sae(normalise: str = "none", k: int = 0, width: int = WIDTH) -> ImportedSae:
    random = torch.Generator().manual_seed(1)
    encoder = torch.randn(width, FEATURES, generator=random) * 0.3
    bias = torch.randn(FEATURES, generator=random) * 0.2
    centre = torch.randn(width, generator=random) * 0.1
    return ImportedSae(encoder, bias, encoder.T.contiguous(), centre, k, normalise)


def some_cells(seed: int = 0, n_images: int = 2) -> Tensor:
    return torch.randn(n_images, N_CELLS, WIDTH, generator=torch.Generator().manual_seed(seed))


def an_edit(op: Any, feature: int, value: float | None = None, **where: Any) -> ResolvedEdit:
    edit = Edit(op, feature=feature, value=value, unit="p99", **where)
    dose = (value or 0.0,)
    return ResolvedEdit(edit, (feature,), ("",), dose, dose)


def plainly(
    encoder: SparseEncoder, cells: Tensor, sae: ImportedSae, feature: int, value: float
) -> Tensor:
    """Codes (1 + cells, features) of one image with one feature clamped to a value everywhere."""
    rows = []
    for vector in [cells.mean(0), *cells]:
        code = sae.code(vector[None])
        edited = code.clone()
        edited[0, feature] = value
        moved = vector + sae.moved(vector[None], code, edited)[0]
        rows.append(encoder.image_head(moved))
    return torch.stack(rows)


@pytest.mark.parametrize("normalise", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("k", [0, 5])
def test_codes_are_those_of_the_moved_vectors(
    encoder: SparseEncoder, normalise: str, k: int
) -> None:
    cells, sae = some_cells(), an_sae(normalise, k)
    found = steer_through_sae(encoder, cells, sae, [an_edit("clamp", 3, 4.0)], reach="all")
    plain = torch.cat([plainly(encoder, image, sae, 3, 4.0) for image in cells])
    assert torch.allclose(found.codes.dense(), plain, atol=1e-4)
    assert not torch.allclose(found.codes.dense(), unsteered(encoder, cells).dense(), atol=1e-2)
    assert found.codes.grid == encoder.grid
    assert [(done.image, done.feature, done.after) for done in found.applied] == [
        (0, 3, 4.0),
        (1, 3, 4.0),
    ]


def unsteered(encoder: SparseEncoder, cells: Tensor) -> Codes:
    return Codes.cat([encoder.code_of_cells(image) for image in cells])


@settings(max_examples=25)
@given(
    seed=seeds,
    features=st.lists(st.integers(0, FEATURES - 1), max_size=3, unique=True),
    region=st.sampled_from([None, LEFT]),
    normalise=st.sampled_from(["none", "layer_norm"]),
)
def test_edits_that_change_nothing_give_the_same_bits(
    encoder: SparseEncoder,
    seed: int,
    features: Sequence[int],
    region: tuple[float, float, float, float] | None,
    normalise: str,
) -> None:
    cells = some_cells(seed)
    edits = [an_edit("scale", feature, 1.0, region=region) for feature in features]
    found = steer_through_sae(encoder, cells, an_sae(normalise), edits)
    assert found.codes.sha256() == unsteered(encoder, cells).sha256()


@settings(max_examples=25)
@given(seed=seeds, feature=st.integers(0, FEATURES - 1))
def test_an_image_and_cells_that_no_edit_reaches_keep_their_bits(
    encoder: SparseEncoder, seed: int, feature: int
) -> None:
    cells, sae = some_cells(seed), an_sae()
    edit = an_edit("clamp", feature, 3.0, image=0, region=LEFT)
    found, plain = steer_through_sae(encoder, cells, sae, [edit]).codes, unsteered(encoder, cells)
    assert found.image(1).sha256() == plain.image(1).sha256()
    outside = [1 + cell for cell in range(N_CELLS) if cell % 3]  # all but the first column
    assert torch.equal(found.image(0).dense()[outside], plain.image(0).dense()[outside])
    assert not torch.equal(found.image(0).dense(), plain.image(0).dense())


def test_the_autoencoders_codes_are_of_the_mean_and_of_each_cell() -> None:
    cells, sae = some_cells(), an_sae()
    rows = sae_codes(sae, cells, (3, 3)).image(1).dense()
    assert torch.allclose(rows[0], sae.code(cells[1].mean(0)[None])[0], atol=1e-5)
    assert torch.allclose(rows[1:], sae.code(cells[1]), atol=1e-5)


@pytest.mark.parametrize(
    ("cells", "sae", "edits", "words"),
    [
        (torch.zeros(2, 9, 15), an_sae(), [], r"shape \(2, 9, 15\), expected \(images, 9, 16\)"),
        (torch.zeros(9, 16), an_sae(), [], "shape"),
        (torch.zeros(2, 8, 16), an_sae(), [], "shape"),
        (torch.zeros(0, 9, 16), an_sae(), [], "no image"),
        (some_cells(), an_sae(width=12), [], "takes vectors of 12 entries, .* gives 16"),
        (some_cells(), an_sae(), [an_edit("ablate", 1, image=2)], "image is 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    encoder: SparseEncoder,
    cells: Tensor,
    sae: ImportedSae,
    edits: list[ResolvedEdit],
    words: str,
) -> None:
    with pytest.raises(SparsightError, match=words):
        steer_through_sae(encoder, cells, sae, edits)


def test_a_dense_head_has_no_codes_to_steer() -> None:
    dense = SparseEncoder.build(EncoderConfig(64, "tiny", "tiny", activation="identity"))
    with pytest.raises(SparsightError, match="dense"):
        steer_through_sae(
            dense.requires_grad_(False), some_cells(), an_sae(), [an_edit("clamp", 1, 2.0)]
        )
