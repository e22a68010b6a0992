"""The ``steering`` object of a request: edits, a recipe, a photograph to take features from."""

from dataclasses import dataclass, fields
from typing import Any

from pydantic import Field

from serving.data_uri import read_image
from serving.wire import Wire, parse_wire
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import ImageLimits
from vlm.edits import MAX_EDITS, Edit, parse_edits, refuse_unknown_keys
from vlm.recipe import Recipe, parse_recipe
from vlm.steer_from import DEFAULT_TOP, SteerFrom


class SteerFromUrl(Wire):
    url: str = Field(description="data:image/...;base64,...")


class SteerFromBody(Wire):
    """``steering.steer_from``."""

    image_url: SteerFromUrl = Field(description="The other photograph; no part of the chat.")
    top: int = Field(DEFAULT_TOP, ge=1, le=MAX_EDITS, description="How many features, at most.")
    image: int | None = Field(None, ge=0, description="Index of the image that gets them.")


@dataclass(frozen=True)
class SteeringBody:
    """What a ``steering`` object asks for; the names are its keys."""

    edits: tuple[Edit, ...] = ()
    recipe: Recipe | None = None
    resolve_again: bool = False
    steer_from: SteerFrom | None = None
    receipt: bool | None = None  # None: as edits go

    @property
    def changes(self) -> bool:
        """Whether it asks for any edit."""
        return bool(self.edits) or self.recipe is not None or self.steer_from is not None


KEYS = tuple(field.name for field in fields(SteeringBody))


def read_steering(
    steering: Any,
    *,
    n_images: int,
    n_features: int,
    fingerprint: str,
    image: ImageLimits | None = None,
) -> SteeringBody:
    """The object of a request with that many images, its photograph decoded.

    Raises SparsightError, with `param` the key's path, for what can be told without the model.
    """
    if steering is None:
        return SteeringBody()
    if not isinstance(steering, dict):
        parse_edits(steering, n_images=n_images, n_features=n_features)  # refuses it in its words
    refuse_unknown_keys(steering, KEYS, "steering")
    given = {key: value for key, value in steering.items() if value is not None}
    plain = {key: steering[key] for key in ("edits", "receipt") if key in steering}
    found = SteeringBody(
        edits=parse_edits(plain, n_images=n_images, n_features=n_features),
        recipe=_read_recipe(given, n_features, fingerprint),
        resolve_again=given.get("resolve_again", False),
        steer_from=_read_steer_from(given["steer_from"], image) if "steer_from" in given else None,
        receipt=given.get("receipt"),
    )
    if found.changes and n_images == 0:
        raise SparsightError(
            "steering without an image: edits change an image's code, and this request has no "
            "image; add one or leave steering out",
            param="steering",
            code="steering_without_image",
        )
    return found


def _read_recipe(given: dict[str, Any], n_features: int, fingerprint: str) -> Recipe | None:
    again = given.get("resolve_again", False)
    if not isinstance(again, bool):
        key = "steering.resolve_again"
        raise SparsightError(f"{key} is {type(again).__name__}, expected true or false", param=key)
    if "recipe" not in given:
        if again:
            raise SparsightError(
                "resolve_again goes with a recipe, and there is none",
                param="steering.resolve_again",
            )
        return None
    at = "steering.recipe"
    recipe = parse_recipe(given["recipe"], param=at)
    recipe.edits_for(fingerprint, n_features, resolve_again=again, param=at)
    return recipe


def _read_steer_from(asked: Any, limits: ImageLimits | None) -> SteerFrom:
    at = "steering.steer_from"
    if not isinstance(asked, dict):
        raise SparsightError(f"{at} is no object; expected image_url and top", param=at)
    try:
        body = parse_wire(SteerFromBody, asked)
    except SparsightError as error:
        key = f"{at}.{error.param}"
        raise SparsightError(f"{at}: {error.message}", param=key, code=error.code) from None
    photo = read_image(body.image_url.url, param=f"{at}.image_url.url", limits=limits)
    return SteerFrom(photo, body.top, body.image)
