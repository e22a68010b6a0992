"""Which concepts a model knows, and the closest of them to one that it does not."""

import re
from difflib import SequenceMatcher
from reprlib import repr as short

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError

N_CLOSEST = 3  # names offered for an unknown concept
N_COMPARED = 200  # words compared letter by letter; sharing letter pairs picks them


class UnknownConceptError(SparsightError):
    """A concept that neither the vocabulary nor any feature name holds."""

    code = "unknown_concept"


def normalise(concept: str) -> str:
    """A concept as vocabulary and templates have it: lower case, single spaces, trimmed."""
    return " ".join(concept.lower().split())


def refuse_unknown(concept: str, atlas: FeatureAtlas, param: str) -> None:
    """Raises UnknownConceptError, with `param`, for a concept (normalised) that is not known."""
    known, names = atlas.vocabulary, atlas.known_names
    words = re.split(r"[\s-]+", concept)
    if concept in known or concept in names or all(word in known for word in words):
        return
    near = closest(concept, atlas)
    hint = f"closest: {', '.join(near)}" if near else "none comes close; try a plainer word"
    raise UnknownConceptError(
        f"no concept named {short(concept)} among {len(known | names)} known words and names "
        f"({hint})",
        param=param,
    )


def closest(concept: str, atlas: FeatureAtlas) -> list[str]:
    """Up to three known words that look most like the concept, best first."""
    pairs = _letter_pairs(concept)
    known = atlas.vocabulary | atlas.known_names
    # Letter by letter against 100,000 words takes seconds, so shared letter pairs (Dice) go first.
    shortlist = sorted(known, key=lambda word: (-_dice(pairs, _letter_pairs(word)), word))[
        :N_COMPARED
    ]
    matcher = SequenceMatcher(b=concept)
    scored = []
    for word in shortlist:
        matcher.set_seq1(word)
        if (ratio := matcher.ratio()) >= 0.6:  # difflib's own cut for a close match
            scored.append((-ratio, word))
    return [word for _, word in sorted(scored)[:N_CLOSEST]]


def _letter_pairs(text: str) -> frozenset[str]:
    padded = f" {text} "
    return frozenset(padded[i : i + 2] for i in range(len(padded) - 1))


def _dice(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other))
