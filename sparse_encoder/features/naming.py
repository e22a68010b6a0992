"""Which words a feature is called by, or that it honestly has no name.

A feature is called by the word that images speak for, where the lower bound of its AUC on the images
that are not held out reaches MIN_BOUND; else by the word of the text tower with the largest lift,
where that stands MIN_DEVIATIONS above the mean word; else by nothing. Words of one lemma count once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparse_encoder.features.state import Arrays
from sparse_encoder.features.words import WordForms

MIN_BOUND = 0.6
MIN_DEVIATIONS = 6.0
N_NAMES = 5  # the name and four runners-up


@dataclass(frozen=True)
class Named:
    """The names of one feature; `words` is empty where it has none."""

    words: list[str]
    activation: float  # text activation of the first, raw units
    by: str  # "images", "text" or ""


def name_features(
    live: Sequence[bool],
    evidence: Arrays,
    evidence_words: Sequence[str],
    text: Arrays,
    text_words: Sequence[str],
    forms: WordForms,
) -> list[Named]:
    """One entry a feature. evidence_words[i] and text_words[i] are what the arrays' indices mean."""
    return [
        _name(j, evidence, evidence_words, text, text_words, forms)
        if live[j]
        else Named([], 0.0, "")
        for j in range(len(live))
    ]


def _name(
    j: int,
    evidence: Arrays,
    evidence_words: Sequence[str],
    text: Arrays,
    text_words: Sequence[str],
    forms: WordForms,
) -> Named:
    found: dict[str, tuple[str, float, str]] = {}
    for i, bound, activation in zip(
        evidence["index"][j], evidence["bound"][j], evidence["activation"][j], strict=True
    ):
        if i >= 0 and bound >= MIN_BOUND:
            word = evidence_words[i]
            found.setdefault(forms.lemma(word), (word, float(activation), "images"))
    spread = max(float(text["deviation"][j]), 1e-6)
    for i, lift, activation in zip(
        text["index"][j], text["lift"][j], text["activation"][j], strict=True
    ):
        if i >= 0 and (lift - text["mean"][j]) / spread >= MIN_DEVIATIONS:
            word = text_words[i]
            found.setdefault(forms.lemma(word), (word, float(activation), "text"))
    chosen = list(found.values())[:N_NAMES]
    if not chosen:
        return Named([], 0.0, "")
    return Named([word for word, _, _ in chosen], chosen[0][1], chosen[0][2])


def describe(words: Sequence[str], said: Sequence[set[str]]) -> str:
    """One line: the names, and the words said of most of the feature's strongest images.

    said: of each of these images. Captions themselves are not quoted: they belong to their authors.
    """
    counts: dict[str, int] = {}
    for here in said:
        for lemma in here:
            if len(lemma) > 2:
                counts[lemma] = counts.get(lemma, 0) + 1
    often = sorted((word for word, n in counts.items() if n >= 2), key=lambda w: (-counts[w], w))
    line = ", ".join(words) if words else "no name"
    if not often:
        return line
    shown = ", ".join(f"{word} {counts[word]}" for word in _apart(often)[:4])
    return f"{line}; said of its {len(said)} strongest images: {shown}"


def _apart(words: Sequence[str]) -> list[str]:
    """Without words that are part of a phrase before them, or hold one."""
    kept: list[str] = []
    for word in words:
        tokens = set(word.split())
        if not any(tokens <= set(k.split()) or set(k.split()) <= tokens for k in kept):
            kept.append(word)
    return kept


def text_only(n_features: int, k: int) -> Arrays:
    """Evidence for features of which no image says anything."""
    return {
        "index": np.full((n_features, k), -1, np.int64),
        "bound": np.zeros((n_features, k), np.float32),
        "activation": np.zeros((n_features, k), np.float32),
    }
