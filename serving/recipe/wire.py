"""The request of ``POST /v1/steering/recipe``; its answer is the content of a recipe file."""

from typing import Any

from pydantic import Field

from serving.wire import Wire
from vlm.recipe import MAX_DESCRIPTION, MAX_NAME


class RecipeRequest(Wire):
    """The body of ``POST /v1/steering/recipe``."""

    name: str = Field(min_length=1, max_length=MAX_NAME)
    description: str = Field("", max_length=MAX_DESCRIPTION)
    steering: Any = Field(description="As in a chat; at least one edit.")
    image: str | None = Field(
        None, description="With steer_from: the photograph that lacks the features, as a data URI."
    )
