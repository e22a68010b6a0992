"""Which concepts an evaluation is about: all labels, and the things that unsteered answers name.

None is left out because steering does badly on it, only for reasons that are told before anything is
steered: too few photographs, or a word that the model refuses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from vlm.concept_swaps import SwapTable
from vlm.concepts import resolve
from vlm.edits import Edit
from vlm.mention import Lexicon

# Nouns of things that captions say of the picture itself ("a photo of a dog"), not of what it shows.
NOT_SHOWN = frozenset({"photo", "photograph", "picture", "image", "view", "close-up", "background"})
MIN_ELIGIBLE = 20  # photographs; a concept with fewer says more about them than about steering


@dataclass(frozen=True)
class Candidates:
    """Concepts with their lexicons, and those that were left out with the reason."""

    lexicons: Mapping[str, Lexicon]
    refused: Mapping[str, str]


def find_candidates(
    labels: Iterable[str],
    texts: Sequence[str],
    atlas: FeatureAtlas,
    encode_text: Callable[[list[str]], Tensor],
    at_least: int = MIN_ELIGIBLE,
) -> Candidates:
    """Labels, and nouns for visible things that `at_least` of the texts say, in alphabetical order.

    Refused are concepts that no edit can name: unknown words, and words without a feature.
    """
    names = {" ".join(label.lower().split()) for label in labels}
    names |= {thing.name for thing in SwapTable.mine(texts, {}, at_least).things} - NOT_SHOWN
    lexicons, refused = {}, {}
    for name in sorted(names):
        try:
            resolve([Edit("ablate", concept=name, k=1)], atlas, encode_text)
            lexicons[name] = Lexicon.for_concept(name)
        except SparsightError as error:
            refused[name] = error.message
    return Candidates(lexicons, refused)
