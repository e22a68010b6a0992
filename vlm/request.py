"""What is asked of the pipeline: a chat, and what to do to the codes of its images."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.edits import Edit
from vlm.recipe import Recipe
from vlm.sampling import Sampling
from vlm.steer_from import SteerFrom
from vlm.template import DEFAULT_PROMPT, ImagePart, Message, TextPart, chat_images


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
    codes: Codes | None = None  # of the images, where another way than the encoder's made them

    @property
    def is_steered(self) -> bool:
        return bool(self.edits) or self.recipe is not None or self.steer_from is not None

    def check_codes(self) -> None:
        """Raises SparsightError where codes came along that do not fit the rest of the request."""
        if self.codes is None:
            return
        if self.is_steered or self.want_receipt:
            raise SparsightError(
                "codes that were given with a request take no edits and have no receipt: nobody "
                "could make them again from the image; edit them before",
                param="codes",
            )
        n_images = len(chat_images(self.messages))
        if self.codes.n_images != n_images:
            raise SparsightError(
                f"codes of {self.codes.n_images} images were given for {n_images} images; expected "
                "one for each",
                param="codes",
            )


def caption_request(
    image: DecodedImage,
    *,
    prompt: str = DEFAULT_PROMPT,
    edits: Sequence[Edit] = (),
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    codes: Codes | None = None,
) -> Request:
    """One photograph and one question."""
    parts = (ImagePart(image), TextPart(prompt))
    return Request((Message("user", parts),), tuple(edits), sampling, codes=codes)
