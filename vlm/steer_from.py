"""A second photograph as a recipe: its strongest features that the first one lacks.

A feature is taken where it is active in the other photograph's global code and at 0 in this one's; it
is clamped to its activation there, to the bit, so in raw units. Strongest means the largest raw
activation, as everywhere else that a code is listed.
"""

from dataclasses import dataclass

import torch

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.edits import MAX_EDITS, Edit
from vlm.recipe import MAX_NAME, Recipe

DEFAULT_TOP = 8


@dataclass(frozen=True)
class SteerFrom:
    """A photograph to take features from. Raises SparsightError, `param` the bare key."""

    photo: DecodedImage
    top: int = DEFAULT_TOP  # features, at most
    image: int | None = None  # index of the request's image that gets them; None = each of them
    name: str = "another photograph"  # in receipts and recipes

    def __post_init__(self) -> None:
        if not isinstance(self.top, int) or not 1 <= self.top <= MAX_EDITS:
            raise SparsightError(
                f"top is {self.top!r}, expected a whole number from 1 to {MAX_EDITS}", param="top"
            )


def recipe_from_photo(
    here: Codes,
    there: Codes,
    asked: SteerFrom,
    atlas: FeatureAtlas,
    *,
    param: str = "steering.steer_from",
) -> Recipe:
    """Clamps of at most `asked.top` features, strongest first.

    here, there: codes of one image each, of the photograph to steer and of `asked.photo`. Raises
    SparsightError where the other photograph has no feature that this one lacks.
    """
    mine, other = _global(here), _global(there)
    # A dead feature has no p99 to check a dose against; active in a photograph it may be all the same.
    taken = (other > 0) & (mine == 0) & torch.from_numpy(~atlas.dead)
    if not bool(taken.any()):
        why = (
            "both have the same code"
            if torch.equal(mine, other)
            else f"each of its {int((other > 0).sum())} active features is active here as well"
        )
        raise SparsightError(
            f"{asked.name} has no feature that this photograph lacks: {why}; choose a photograph "
            f"of something else",
            param=param,
            code="nothing_to_take",
        )
    order = torch.where(taken, other, 0).argsort(descending=True, stable=True)
    order = order[: min(asked.top, int(taken.sum()))]
    edits = tuple(
        Edit("clamp", feature=feature, value=value, unit="raw")
        for feature, value in zip(order.tolist(), other[order].tolist(), strict=True)
    )
    return Recipe(
        name=f"from {asked.name}"[:MAX_NAME],
        fingerprint=atlas.fingerprint,
        edits=edits,
        description=f"The strongest features of the image with sha256 {asked.photo.sha256} that "
        f"another photograph lacked, at their activation there.",
    )


def _global(codes: Codes) -> torch.Tensor:
    """The dense global code (features,) of one image."""
    code, end = torch.zeros(codes.n_features), int(codes.offset[1])
    code[codes.index[:end]] = codes.value[:end]
    return code
