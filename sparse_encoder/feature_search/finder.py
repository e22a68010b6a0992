"""Finds features: what the command line, the server and a program call alike.

How a search ranks: features that are called as the query says come first, names before further
names. After them come all other matches by name and the features with the largest text activations
for the query, the two rankings joined by reciprocal ranks (`rank_fusion`). Of matches by name that
are equally good the one with the larger text activation goes first, then the lower index. Dead
features are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas, concept_codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_search.cursor import read_cursor, write_cursor
from sparse_encoder.feature_search.names import MATCHES, NameHits, NameIndex, normalise_query
from sparse_encoder.feature_search.neighbours import nearest_by_head, row_norms
from sparse_encoder.feature_search.rank_fusion import Indices, fuse

N_BY_TEXT = 100  # features that the text tower adds; past them activations are faint
MAX_PAGE = 100  # features a page
N_NEIGHBOURS = 8


@dataclass(frozen=True)
class FoundFeature:
    """One result of a search, with why it was found."""

    feature: int
    match: str  # "equal", "start", "part", "close": by name; "text": by the text tower alone; ""
    closeness: float  # spelling similarity of the name that matched, [0, 1], 0 where none did
    text: float  # text activation for the query over that of the best feature, [0, 1]


@dataclass(frozen=True)
class FeaturePage:
    """Part of a search's results, best first."""

    features: tuple[FoundFeature, ...]
    total: int  # of the whole search
    next_cursor: str | None  # for the page after; None on the last


@dataclass(frozen=True)
class Neighbour:
    feature: int
    cosine: float  # of the two head rows, [-1, 1]


class FeatureFinder:
    """Searches one model's features. Read-only once made, safe to share as `encode_texts` is.

    atlas: names and scales. encode_texts: texts to codes (n, features); without it names alone are
    searched. head_weight: the image head's (features, width); without it there are no neighbours.
    """

    def __init__(
        self,
        atlas: FeatureAtlas,
        *,
        encode_texts: Callable[[list[str]], Tensor] | None = None,
        head_weight: Tensor | None = None,
    ) -> None:
        if head_weight is not None and len(head_weight) != atlas.n_features:
            raise SparsightError(
                f"the head has {len(head_weight)} features, the atlas {atlas.n_features}: they "
                f"belong to different models; build the atlas again",
                code="other_model",
            )
        self.atlas = atlas
        self._live = np.asarray(~atlas.dead)
        self._names = NameIndex(atlas.names, atlas.runner_up)
        self._encode_texts = encode_texts
        self._head_weight = head_weight
        self._head_norm = None if head_weight is None else row_norms(head_weight)

    def search(
        self, query: str | None = None, *, limit: int = 20, cursor: str | None = None
    ) -> FeaturePage:
        """One page of the features that answer to `query`; all live ones by index without it.

        cursor: `next_cursor` of the page before, of the same search. Raises SparsightError for an
        empty or overlong query, a limit outside of 1..MAX_PAGE, or a cursor of another search.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise SparsightError(
                f"limit is {limit}, expected a whole number from 1 to {MAX_PAGE}", param="limit"
            )
        wanted = None if query is None else normalise_query(query)
        search = f"{self.atlas.fingerprint}\n{'' if wanted is None else wanted}"
        start = 0 if cursor is None else read_cursor(cursor, search)
        if wanted is None:
            live = np.flatnonzero(self._live)
            page = [FoundFeature(int(j), "", 0.0, 0.0) for j in live[start : start + limit]]
            total = len(live)
        else:
            page, total = self._page(wanted, start, limit)
        end = start + limit
        return FeaturePage(tuple(page), total, write_cursor(end, search) if end < total else None)

    @property
    def n_words(self) -> int:
        """Different words among all names."""
        return len(self._names.words)

    def neighbours(self, feature: int, n: int = N_NEIGHBOURS) -> tuple[Neighbour, ...]:
        """The live features whose head rows point most like this one's; none without a head."""
        self.check(feature)
        if self._head_weight is None or self._head_norm is None:
            return ()
        found = nearest_by_head(self._head_weight, self._head_norm, feature, n, self._live)
        return tuple(Neighbour(j, cosine) for j, cosine in found)

    def check(self, feature: int) -> None:
        """Raises SparsightError where there is no such feature."""
        if not 0 <= feature < self.atlas.n_features:
            raise SparsightError(
                f"there is no feature {feature}; this model has features "
                f"0..{self.atlas.n_features - 1}",
                param="feature",
                code="feature_not_found",
            )

    def _page(self, wanted: str, start: int, limit: int) -> tuple[list[FoundFeature], int]:
        text = self._text_activation(wanted)
        hits = self._live_hits(wanted, text)
        by_text = _strongest(text, N_BY_TEXT)
        called_so = hits.feature[hits.is_equal]
        fused, _ = fuse([hits.feature, by_text])
        ranked = np.concatenate([called_so, fused[~np.isin(fused, called_so)]])
        place = {int(j): i for i, j in enumerate(hits.feature)}
        best = float(text.max(initial=0.0)) or 1.0
        page = []
        for j in ranked[start : start + limit].tolist():
            i = place.get(j)
            match = "text" if i is None else MATCHES[int(hits.match[i])]
            closeness = 0.0 if i is None else float(hits.closeness[i])
            page.append(FoundFeature(j, match, closeness, float(text[j]) / best))
        return page, len(ranked)

    def _live_hits(self, wanted: str, text: NDArray[np.float32]) -> NameHits:
        """Matches by name, best first; many features share a name, and `text` orders those."""
        hits = self._names.find(wanted)
        keys = (hits.feature, -text[hits.feature], -hits.closeness, hits.further, hits.match)
        order = np.lexsort(keys)  # the last key counts first
        order = order[self._live[hits.feature[order]]]
        return NameHits(
            hits.feature[order], hits.match[order], hits.further[order], hits.closeness[order]
        )

    def _text_activation(self, wanted: str) -> NDArray[np.float32]:
        """(features,), 0 where dead; all 0 without a text tower."""
        if self._encode_texts is None:
            return np.zeros(self.atlas.n_features, dtype=np.float32)
        code = concept_codes([wanted], self._encode_texts)[0].float().cpu().numpy()
        if len(code) != self.atlas.n_features:
            raise SparsightError(
                f"the text tower gives {len(code)} features, the atlas has "
                f"{self.atlas.n_features}: they belong to different models",
                code="other_model",
            )
        return np.asarray(np.where(self._live, code, 0.0), dtype=np.float32)


def _strongest(activation: NDArray[np.float32], n: int) -> Indices:
    """The features with the `n` largest activations above 0, largest first, ties by index."""
    n = min(n, int((activation > 0).sum()))
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    # Ordering the whole of a code takes longer than the rest of a search: first cut it.
    least = np.partition(activation, -n)[-n]
    candidates = np.flatnonzero(activation >= least)
    order = np.argsort(-activation[candidates], kind="stable")
    return np.asarray(candidates[order][:n], dtype=np.int64)
