"""When a feature has changed its meaning, in one plain rule.

A feature at an earlier stage **kept** its meaning where it already was active on the same images
(correlation with its later self, over one image set, of SAME or more) or already went by a word of its
final names. It **changed** where neither is so. It is **untold** where it was active on fewer than
`at_least` images then or is in the end: a handful of images has no correlation worth the name, and
a silent feature no meaning. It **moved** where it had not the same images, and another index had them
(correlation SAME or more): the meaning was there before, elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_encoder.features.words import WordForms, tokens_of

SAME = 0.5  # correlation; two features that share half of their spread
KEPT, CHANGED, UNTOLD = "kept", "changed", "untold"


@dataclass(frozen=True)
class Drift:
    """Each feature at one stage against its end, (features,)."""

    verdict: list[str]  # kept, changed or untold
    moved: NDArray[np.bool_]


def drift(
    own: NDArray[np.float32],
    best: NDArray[np.float32],
    names: Sequence[Sequence[str]],
    final_names: Sequence[Sequence[str]],
    told: NDArray[np.bool_],
    forms: WordForms,
) -> Drift:
    """The rule above. own, best: correlations, NaN where unknown; told: enough images, then and now."""
    same_images = np.nan_to_num(own, nan=-1) >= SAME
    verdict = []
    for i, (then, now) in enumerate(zip(names, final_names, strict=True)):
        if not told[i]:
            verdict.append(UNTOLD)
        elif same_images[i] or shares_word(then, now, forms):
            verdict.append(KEPT)
        else:
            verdict.append(CHANGED)
    moved = told & ~same_images & (np.nan_to_num(best, nan=-1) >= SAME)
    return Drift(verdict, moved)


def shares_word(one: Sequence[str], other: Sequence[str], forms: WordForms) -> bool:
    """Whether some word, in its base form, is in names of both."""
    return bool(_words(one, forms) & _words(other, forms))


def _words(names: Sequence[str], forms: WordForms) -> set[str]:
    return {forms.lemma(token) for name in names for token in tokens_of(name)}
