"""What is asked of the pipeline: a chat, and what to do to the codes of its images."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparse_encoder.image import DecodedImage
from vlm.decoding import Sampling
from vlm.edits import Edit
from vlm.recipe import Recipe
from vlm.steer_from import SteerFrom
from vlm.template import DEFAULT_PROMPT, ImagePart, Message, TextPart


@dataclass(frozen=True)
class Request:
    """A chat and what to do to the codes of its images."""

    messages: tuple[Message, ...]
    edits: tuple[Edit, ...] = ()
    sampling: Sampling = Sampling()
    want_receipt: bool = False  # also without edits
    recipe: Recipe | None = None  # its edits follow `edits`
    resolve_again: bool = False  # the recipe's concepts by this model, if it is another's
    steer_from: SteerFrom | None = None  # its edits come last

    @property
    def is_steered(self) -> bool:
        return bool(self.edits) or self.recipe is not None or self.steer_from is not None


def caption_request(
    image: DecodedImage,
    *,
    prompt: str = DEFAULT_PROMPT,
    edits: Sequence[Edit] = (),
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
) -> Request:
    """One photograph and one question."""
    parts = (ImagePart(image), TextPart(prompt))
    return Request((Message("user", parts),), tuple(edits), sampling)
