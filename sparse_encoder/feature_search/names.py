"""Features by name: called so, beginning so, holding the query, or spelt nearly so.

Features share few words (8,192 features of sparsight-mini: 3,731), so each word is compared once and
its result is spread over the features that carry it. Spelling: Indel similarity of rapidfuzz,
2 * longest common subsequence / summed lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz
from rapidfuzz.process import cdist

from sparse_encoder.errors import SparsightError

Match = Literal["equal", "start", "part", "close"]
MATCHES: tuple[Match, ...] = get_args(Match)  # best first

# Below it short words are close to everything: "dog" and "dot" are 67, "elefant" and "elephant" 80.
MIN_CLOSENESS = 75
MAX_QUERY = 100  # characters, as long as a concept of an edit may be


@dataclass(frozen=True)
class NameHits:
    """Features by name, best first: by kind of match, then by closeness, then by index.

    At the same kind of match a feature's name goes before another's further name. All (hits,).
    """

    feature: NDArray[np.int64]
    match: NDArray[np.int64]  # index into MATCHES
    further: NDArray[np.bool_]  # the match is with a further name, not with the name
    closeness: NDArray[np.float64]  # spelling similarity, [0, 1], 1 = equal

    @property
    def is_equal(self) -> NDArray[np.bool_]:
        return np.asarray(self.match == 0)


def normalise_query(query: str) -> str:
    """Lower case, single spaces, trimmed. Raises SparsightError for an empty or overlong query."""
    if len(query) > MAX_QUERY:
        raise SparsightError(
            f"query has {len(query):,} characters, at most {MAX_QUERY} are searched for; "
            f"use a word or a short phrase",
            param="query",
        )
    wanted = " ".join(query.lower().split())
    if not wanted:
        raise SparsightError(
            "query is empty; give a word or a short phrase such as 'red bus'",
            param="query",
            code="empty_query",
        )
    return wanted


class NameIndex:
    """All names of all features, each word once. Read-only, safe to share."""

    def __init__(self, names: Sequence[str], runner_up: Sequence[Sequence[str]]) -> None:
        """names: "" where a feature has none; runner_up: its further names, best first."""
        words: dict[str, int] = {}
        entry_feature, entry_word, entry_further = [], [], []
        for feature, (name, others) in enumerate(zip(names, runner_up, strict=True)):
            for place, each in enumerate((name, *others)):
                if word := " ".join(each.lower().split()):
                    entry_feature.append(feature)
                    entry_word.append(words.setdefault(word, len(words)))
                    entry_further.append(place > 0)
        self.words = list(words)
        self._feature = np.asarray(entry_feature, dtype=np.int64)  # (entries,) ascending
        self._word = np.asarray(entry_word, dtype=np.int64)
        self._further = np.asarray(entry_further, dtype=np.bool_)

    def find(self, wanted: str) -> NameHits:
        """Every feature with a name that matches `wanted`, which is normalised."""
        if not self.words:
            none = np.zeros(0, dtype=np.int64)
            return NameHits(none, none, none.astype(np.bool_), none.astype(np.float64))
        match, closeness = self._match_words(wanted)
        hit = match[self._word] < len(MATCHES)
        feature, word, further = self._feature[hit], self._word[hit], self._further[hit]
        # The last key counts first. Within a feature this puts its best name first.
        order = np.lexsort((feature, -closeness[word], further, match[word]))
        feature, word, further = feature[order], word[order], further[order]
        first = np.zeros(len(feature), dtype=np.bool_)
        first[np.unique(feature, return_index=True)[1]] = True
        word = word[first]
        return NameHits(feature[first], match[word], further[first], closeness[word])

    def _match_words(self, wanted: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Index into MATCHES of each word, past its end for none; and closeness, [0, 1]."""
        ratio = cdist([wanted], self.words, scorer=fuzz.ratio, dtype=np.float64)[0]
        match = np.where(ratio >= MIN_CLOSENESS, 3, len(MATCHES))
        held = [i for i, word in enumerate(self.words) if wanted in word]
        for i in held:
            word = self.words[i]
            match[i] = 0 if word == wanted else 1 if word.startswith(wanted) else 2
        return match, ratio / 100
