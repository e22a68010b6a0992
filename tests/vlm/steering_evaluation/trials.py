"""Trials made by hand, and vectors of texts by the words in them."""

import torch
from torch import Tensor

from vlm.steering_evaluation.wishes import Trial, Wish
from vlm.verdicts import Verdict

WORDS = ("dog", "cat", "bus")


def trial(
    success: bool,
    concept: str = "cat",
    *,
    corrupt: bool = False,
    retained: float | None = None,
    image: int = 0,
    after: str = "A cat.",
) -> Trial:
    """An insertion of `concept`."""
    verdict = Verdict(False, success, ("repetition",) if corrupt else ())
    wish = Wish(image, "insertion", target=concept)
    return Trial(wish, f"image-{image}", "A dog.", after, verdict, retained)


def embed(texts: list[str]) -> Tensor:
    """One axis a known word, a last one for all others."""
    rows = [[float(word in text.lower()) for word in WORDS] for text in texts]
    return torch.tensor([[*row, 0.2] for row in rows])
