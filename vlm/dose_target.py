"""What is calibrated: a concept at one k, or one feature by its name."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from vlm.concepts import resolve
from vlm.edits import DEFAULT_K, Edit
from vlm.known_concepts import normalise
from vlm.mention import Lexicon, tokens_of

N_TOLD = 5  # features that a refusal names
EncodeTexts = Callable[[list[str]], Tensor]  # texts to codes (texts, features)


@dataclass(frozen=True)
class DoseTarget:
    """A clamp whose dose is open, and the word that answers should say."""

    concept: str | None  # exactly one of concept and feature
    k: int | None
    feature: int | None
    name: str

    @property
    def key(self) -> tuple[str | None, int | None, int | None]:
        """As `DoseCurve.target`."""
        return self.concept, self.k, self.feature

    @property
    def label(self) -> str:
        """``cat`` or ``#812 (tabby)``."""
        return self.concept if self.concept is not None else f"#{self.feature} ({self.name})"

    @cached_property
    def lexicon(self) -> Lexicon:
        return Lexicon.for_concept(self.name)

    def edit(self, dose: float) -> Edit:
        """The clamp at a dose in p99."""
        return Edit(op="clamp", concept=self.concept, k=self.k, feature=self.feature, value=dose)


def concept_targets(
    concepts: Iterable[str], atlas: FeatureAtlas, encode_texts: EncodeTexts, k: int = DEFAULT_K
) -> list[DoseTarget]:
    """These concepts, each once, in order.

    Raises SparsightError, with `param` "concepts", for a concept that the model does not know, or
    that no feature which ever fires answers to.
    """
    targets = []
    for concept in dict.fromkeys(map(normalise, concepts)):
        try:
            target = DoseTarget(concept, k, None, concept)
            resolve([target.edit(1.0)], atlas, encode_texts)
            Lexicon.for_concept(concept)
        except SparsightError as error:
            raise SparsightError(error.message, param="concepts", code=error.code) from None
        targets.append(target)
    return targets


def labelled_concepts(
    labels: Iterable[str | None], atlas: FeatureAtlas, encode_texts: EncodeTexts, k: int = DEFAULT_K
) -> list[DoseTarget]:
    """The labels of a data set that can be concepts of this model, in alphabetical order."""
    targets = []
    for label in sorted({normalise(label) for label in labels if label}):
        try:
            targets += concept_targets([label], atlas, encode_texts, k)
        except SparsightError:
            continue  # nobody asked for this one
    return targets


def feature_targets(atlas: FeatureAtlas, features: Sequence[int]) -> list[DoseTarget]:
    """The features of these indices, each once, in order.

    Raises SparsightError, which names them, for features that the atlas lacks, that never fire, or
    whose name holds no word that an answer could say.
    """
    outside = [i for i in features if not 0 <= i < atlas.n_features]
    _refuse(outside, atlas, f"outside 0..{atlas.n_features - 1}", "invalid_value")
    dead = [i for i in features if atlas.dead[i]]
    why = "which never fire: active on no reference image, they have no p99 to count doses in"
    _refuse(dead, atlas, why, "dead_feature")
    nameless = [i for i in features if not tokens_of(atlas.names[i])]
    _refuse(nameless, atlas, "without a name that an answer could say", "invalid_value")
    return [DoseTarget(None, None, i, atlas.names[i]) for i in dict.fromkeys(features)]


def sampled_features(atlas: FeatureAtlas, n: int, seed: int = 0) -> list[DoseTarget]:
    """At most n live named features, drawn by seed; those with a verified name before all others.

    A feature whose name is unsure can hardly be judged by it, so these come last.
    """
    named = [i for i in range(atlas.n_features) if not atlas.dead[i] and tokens_of(atlas.names[i])]
    drawn = np.random.default_rng(seed).permutation(named).tolist()
    if atlas.trust is not None:
        trust = atlas.trust
        drawn.sort(key=lambda i: trust[i] != "verified")  # stable: keeps the draw within each half
    return feature_targets(atlas, drawn[:n])


def _refuse(features: Sequence[int], atlas: FeatureAtlas, why: str, code: str) -> None:
    if not features:
        return
    told = ", ".join(_called(i, atlas) for i in features[:N_TOLD])
    more = f" and {len(features) - N_TOLD} more" if len(features) > N_TOLD else ""
    raise SparsightError(
        f"cannot calibrate features {why}: {told}{more}; choose others", param="feature", code=code
    )


def _called(feature: int, atlas: FeatureAtlas) -> str:
    name = atlas.names[feature] if 0 <= feature < atlas.n_features else ""
    return f"{feature} ({name})" if name else str(feature)
