"""A recipe: edits under a name, in a small JSON file that command line, API and page all read.

``{"name", "description", "fingerprint", "edits"}``; the edits as in a request. Feature numbers and
raw doses mean something in one model only, so a recipe carries the fingerprint of the model it was
made for and is refused by any other. Concepts, factors and doses in p99 mean the same everywhere: a
recipe of these alone can be resolved again, when asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from sparse_encoder.errors import SparsightError
from vlm.edits import Edit, parse_edit, refuse_missing_feature, refuse_too_many, refuse_unknown_keys

KEYS = ("name", "description", "fingerprint", "edits")
MAX_NAME = 100  # characters
MAX_DESCRIPTION = 1000


@dataclass(frozen=True)
class Recipe:
    """What a recipe file holds. Raises SparsightError, with `param` the bare key, where it cannot."""

    name: str
    fingerprint: str  # of the model it was made for
    edits: tuple[Edit, ...]
    description: str = ""

    def __post_init__(self) -> None:
        _check_text("name", self.name, MAX_NAME)
        if not self.name.strip():
            raise SparsightError("name is empty; give the recipe a name", param="name")
        _check_text("description", self.description, MAX_DESCRIPTION)
        if not isinstance(self.fingerprint, str) or not self.fingerprint:
            raise SparsightError(
                f"fingerprint is {short(self.fingerprint)}, expected the model's, as "
                f"`sparsight steering recipe save` writes it",
                param="fingerprint",
            )
        if not self.edits:
            raise SparsightError("edits is empty: a recipe changes something", param="edits")
        refuse_too_many(len(self.edits), "edits")
        for i, edit in enumerate(self.edits):
            if edit.image is not None:
                raise SparsightError(
                    f"edits[{i}].image is {edit.image}: a recipe is for any photograph; leave "
                    f"image out",
                    param=f"edits[{i}].image",
                )

    def to_json(self) -> dict[str, Any]:
        """The content of its file."""
        return {
            "name": self.name,
            "description": self.description,
            "fingerprint": self.fingerprint,
            "edits": [edit.to_json() for edit in self.edits],
        }

    def edits_for(
        self,
        fingerprint: str,
        n_features: int,
        *,
        resolve_again: bool = False,
        param: str = "recipe",
    ) -> tuple[Edit, ...]:
        """Its edits for the model of that fingerprint and size.

        Raises SparsightError for another model than its own, unless it is to be resolved again and
        each edit means the same there.
        """
        if self.fingerprint == fingerprint:
            for i, edit in enumerate(self.edits):
                refuse_missing_feature(edit, n_features, f"{param}.edits[{i}]")
            return self.edits
        two = f"was made for model {self.fingerprint[:12]}, this is {fingerprint[:12]}"
        if not resolve_again:
            raise SparsightError(
                f"the recipe {self.name!r} {two}: its feature numbers and doses mean other things "
                f"here; make it again with this model, or have its concepts resolved again "
                f"(--resolve-again, resolve_again)",
                param=f"{param}.fingerprint",
                code="other_fingerprint",
            )
        for i, edit in enumerate(self.edits):
            if edit.feature is None and edit.unit == "p99":
                continue
            what = (
                f"its edits[{i}] is of feature {edit.feature}, which is another one here; name a "
                f"concept instead"
                if edit.feature is not None
                else f"its edits[{i}] has a raw dose, whose unit is the other model's; give it in "
                f"p99"
            )
            raise SparsightError(
                f"the recipe {self.name!r} {two}, and cannot be resolved again: {what}",
                param=f"{param}.edits[{i}].{'unit' if edit.feature is None else 'feature'}",
                code="other_fingerprint",
            )
        return self.edits


def parse_recipe(data: object, *, param: str = "recipe") -> Recipe:
    """The recipe of a file's JSON; refusals have `param` plus the offending key as their param."""
    if not isinstance(data, dict):
        raise SparsightError(
            f"{param} is no recipe: expected an object with {', '.join(KEYS)}", param=param
        )
    refuse_unknown_keys(data, KEYS, param)
    for key in ("name", "fingerprint", "edits"):
        if key not in data:
            raise SparsightError(f"{param} has no {key}", param=f"{param}.{key}")
    items, key = data["edits"], f"{param}.edits"
    if not isinstance(items, list):
        raise SparsightError(f"{key} is {short(items)}, expected a list of edits", param=key)
    refuse_too_many(len(items), key)
    edits = tuple(parse_edit(item, f"{key}[{i}]") for i, item in enumerate(items))
    try:
        return Recipe(data["name"], data["fingerprint"], edits, data.get("description", ""))
    except SparsightError as error:
        key = f"{param}.{error.param}"
        raise SparsightError(f"{param}: {error.message}", param=key, code=error.code) from None


@dataclass(frozen=True)
class RecipeUse:
    """Which of a request's edits a recipe brought; the receipt names it so."""

    name: str
    description: str
    fingerprint: str  # of the model it was made for
    edits: tuple[int, ...]  # indices into the request's edits

    def to_json(self) -> dict[str, Any]:
        """As the receipt has it."""
        return {
            "name": self.name,
            "description": self.description,
            "fingerprint": self.fingerprint,
            "edits": list(self.edits),
        }


def use_of(recipe: Recipe, edits: Sequence[Edit], n_before: int) -> RecipeUse:
    """The use of a recipe whose `edits` follow `n_before` others."""
    indices = tuple(range(n_before, n_before + len(edits)))
    return RecipeUse(recipe.name, recipe.description, recipe.fingerprint, indices)


def _check_text(key: str, text: object, most: int) -> None:
    if not isinstance(text, str):
        raise SparsightError(f"{key} is {short(text)}, expected a string", param=key)
    if len(text) > most:
        raise SparsightError(
            f"{key} has {len(text)} characters, at most {most} are allowed", param=key
        )
