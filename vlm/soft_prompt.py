"""What a request puts before the language model, whichever engine runs that."""

from dataclasses import dataclass

from torch import Tensor

from vlm.receipt import Receipt


@dataclass(frozen=True)
class SoftPrompt:
    """A chat as token ids before, between and after its images, and each image's soft tokens."""

    pieces: list[list[int]]  # one more than there are images
    soft: tuple[Tensor, ...]  # (tokens, hidden) an image, after the request's edits
    receipt: Receipt | None

    @property
    def n_tokens(self) -> int:
        return sum(map(len, self.pieces)) + sum(map(len, self.soft))
