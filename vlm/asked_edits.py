"""All edits of a request as one list: its own, then its recipe's, then those from a photograph.

What refuses an edit speaks of its place in that list; `at_their_place` says where in the request it
stood.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.edits import Edit, refuse_missing_image, refuse_too_many
from vlm.recipe import RecipeUse, use_of
from vlm.request import Request
from vlm.steer_from import recipe_from_photo

RECIPE, PHOTO = "steering.recipe", "steering.steer_from"


@dataclass(frozen=True)
class AskedEdits:
    """The edits, which recipes brought which, and each one's place in the request."""

    edits: tuple[Edit, ...]
    recipes: tuple[RecipeUse, ...] = ()
    places: tuple[str, ...] = ()  # such as steering.recipe.edits[0]

    @contextmanager
    def at_their_place(self) -> Iterator[None]:
        """Gives a refusal within the place of its edit in the request as its `param`."""
        try:
            yield
        except SparsightError as error:
            found = re.match(r"steering\.edits\[(\d+)\]", error.param or "")
            if found is not None and int(found[1]) < len(self.places):
                place, key = self.places[int(found[1])], (error.param or "")[found.end() :]
                error.param = place if place.startswith(PHOTO) else place + key
            raise


def asked_edits(
    request: Request,
    codes: Codes | None,
    atlas: FeatureAtlas,
    fingerprint: str,
    encode: Callable[[DecodedImage], Codes],
) -> AskedEdits:
    """Puts them together for the images of the request, which `codes` are of (None: for any).

    Raises SparsightError for a recipe of another model, and a photograph with nothing to take.
    """
    recipe, steer_from = request.recipe, request.steer_from
    edits = list(request.edits)
    uses: list[RecipeUse] = []
    places = [f"steering.edits[{i}]" for i in range(len(edits))]
    if recipe is not None:
        theirs = recipe.edits_for(
            fingerprint, atlas.n_features, resolve_again=request.resolve_again, param=RECIPE
        )
        uses.append(use_of(recipe, theirs, len(edits)))
        places += [f"{RECIPE}.edits[{i}]" for i in range(len(theirs))]
        edits += theirs
    if steer_from is not None and codes is None:
        raise SparsightError(
            f"features are taken from {steer_from.name} that another photograph lacks, and that "
            f"one is not given; add it",
            param=PHOTO,
        )
    if steer_from is not None and codes is not None:
        refuse_missing_image(
            Edit("ablate", feature=0, image=steer_from.image), codes.n_images, PHOTO
        )
        there = encode(steer_from.photo)
        for image in range(codes.n_images):
            if steer_from.image not in (None, image):
                continue
            made = recipe_from_photo(codes.image(image), there, steer_from, atlas, param=PHOTO)
            uses.append(use_of(made, made.edits, len(edits)))
            places += [PHOTO] * len(made.edits)
            only = image if codes.n_images > 1 else None
            edits += [replace(edit, image=only) for edit in made.edits]
    refuse_too_many(len(edits), "steering.edits")
    return AskedEdits(tuple(edits), tuple(uses), tuple(places))
