"""Trials made by hand."""

from vlm.steering_evaluation.wishes import Trial, Wish
from vlm.verdicts import Verdict


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
