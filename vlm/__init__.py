"""The captioner: edits on codes, projector, language model, one pipeline from photo to answer.

Names are imported when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlm.edits import Edit as Edit
    from vlm.edits import parse_edits as parse_edits
    from vlm.pipeline import Answer as Answer
    from vlm.pipeline import Message as Message
    from vlm.pipeline import Pipeline as Pipeline
    from vlm.pipeline import Request as Request
    from vlm.pipeline import Sampling as Sampling
    from vlm.pipeline import caption_request as caption_request
    from vlm.receipt import Receipt as Receipt
    from vlm.receipt import verify_receipt as verify_receipt
    from vlm.recipe import Recipe as Recipe
    from vlm.recipe_file import read_recipe_file as read_recipe_file
    from vlm.shorthand import parse_shorthand as parse_shorthand
    from vlm.steer_from import SteerFrom as SteerFrom
    from vlm.train_run import train_vlm as train_vlm

_HOMES = {
    "Answer": "pipeline",
    "Edit": "edits",
    "Message": "pipeline",
    "Pipeline": "pipeline",
    "Receipt": "receipt",
    "Recipe": "recipe",
    "Request": "pipeline",
    "Sampling": "pipeline",
    "SteerFrom": "steer_from",
    "caption_request": "pipeline",
    "parse_edits": "edits",
    "parse_shorthand": "shorthand",
    "read_recipe_file": "recipe_file",
    "train_vlm": "train_run",
    "verify_receipt": "receipt",
}

__all__ = [
    "Answer",
    "Edit",
    "Message",
    "Pipeline",
    "Receipt",
    "Recipe",
    "Request",
    "Sampling",
    "SteerFrom",
    "caption_request",
    "parse_edits",
    "parse_shorthand",
    "read_recipe_file",
    "train_vlm",
    "verify_receipt",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
