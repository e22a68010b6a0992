"""A recipe from what a request asks for, each edit tried on the model before it is written down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage
from vlm.asked_edits import asked_edits
from vlm.concepts import ResolvedEdit, resolve
from vlm.edits import Edit
from vlm.recipe import Recipe
from vlm.request import Request
from vlm.steer_from import SteerFrom
from vlm.template import ImagePart, Message


@dataclass(frozen=True)
class Maker:
    """What a recipe needs of a model; no language model among it."""

    atlas: FeatureAtlas
    encode_texts: Callable[[list[str]], Tensor]
    encode: Callable[[DecodedImage], Codes]

    def resolved(
        self,
        *,
        photo: DecodedImage | None = None,
        edits: Sequence[Edit] = (),
        recipe: Recipe | None = None,
        resolve_again: bool = False,
        steer_from: SteerFrom | None = None,
    ) -> tuple[ResolvedEdit, ...]:
        """All these edits with their features. Raises SparsightError for what no request may ask.

        photo: the one to be steered, without which steer_from has nothing to compare with.
        """
        chat = () if photo is None else (Message("user", (ImagePart(photo),)),)
        request = Request(
            chat, tuple(edits), recipe=recipe, resolve_again=resolve_again, steer_from=steer_from
        )
        codes = None if photo is None else self.encode(photo)
        asked = asked_edits(request, codes, self.atlas, self.atlas.fingerprint, self.encode)
        with asked.at_their_place():
            return resolve(asked.edits, self.atlas, self.encode_texts)

    def recipe(self, name: str, description: str, resolved: Sequence[ResolvedEdit]) -> Recipe:
        """The recipe of these edits, made for this model."""
        edits = tuple(item.edit for item in resolved)
        return Recipe(name, self.atlas.fingerprint, edits, description)
