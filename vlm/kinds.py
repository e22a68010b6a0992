"""Features that are named for a kind of a concept: of "dog" those called beagle, of "watercraft" ketch.

Who forbids boats means ferries too, but a word's text code has few of the features of its kinds: of those
named for breeds a tenth for "dog". WordNet knows the kinds, the atlas what its features are called.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from vlm.label_senses import LABEL_SENSES
from vlm.mention import Lexicon, is_synset_name
from vlm.wordnet import Synset, wordnet


class _Kind(NamedTuple):
    """The live features called by one word.

    sure: whether the word mostly means such a kind, or is the concept itself.
    """

    features: tuple[int, ...]
    sure: bool


def features_of_kinds(concept: str, atlas: FeatureAtlas, text: Tensor) -> list[int]:
    """Features named for the concept (normalised) or for a kind of it, in ascending order.

    text: the concept's text code (features,). Names with other meanings than the kind count where
    one of their features answers to the concept's own word: "ferry" is a watercraft, but "dalmatian",
    in WordNet a native of Dalmatia first, is nobody. Empty where WordNet lacks the concept.
    """
    answering = set((text > 0).nonzero()[:, 0].tolist())
    return sorted(
        feature
        for kind in _kinds(concept, atlas)
        if kind.sure or not answering.isdisjoint(kind.features)
        for feature in kind.features
    )


# Made from all names of the atlas; a request's concepts are asked for again and again.
@lru_cache(maxsize=256)
def _kinds(concept: str, atlas: FeatureAtlas) -> tuple[_Kind, ...]:
    try:
        below = Lexicon.for_concept(concept).synsets
    except SparsightError:  # a concept is known by other means than WordNet, too
        return ()
    if not below:
        return ()
    called: dict[str, list[int]] = {}
    for feature, name in enumerate(atlas.names):
        if name and not atlas.dead[feature]:
            called.setdefault(name.lower(), []).append(feature)
    kinds = (
        (features, 1.0 if name == concept else _share(name, below))
        for name, features in called.items()
    )
    return tuple(_Kind(tuple(features), share > 0.5) for features, share in kinds if share > 0)


def _share(name: str, below: frozenset[int]) -> float:
    """Share of a name's meanings that are such kinds; 0 where its first is none."""
    senses = list(_senses(name))
    if not senses or senses[0].offset not in below:
        return 0.0
    return sum(sense.offset in below for sense in senses) / len(senses)


def _senses(name: str) -> Iterator[Synset]:
    if name not in LABEL_SENSES:
        yield from wordnet().senses(name)
        return
    for meaning in LABEL_SENSES[name]:
        if is_synset_name(meaning):
            yield wordnet().synset(meaning)
