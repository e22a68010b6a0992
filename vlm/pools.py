"""What the ablation of a concept may take: more features than its k, of which a photograph shows some.

Its own, the next best up to MAX_K, and all that are named for kinds of it (kinds.py). Which of them go
is decided image by image (apply.py).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from vlm.edits import MAX_K, Edit
from vlm.kinds import features_of_kinds
from vlm.known_concepts import normalise
from vlm.share_out import Wishes, same_image, share_out


class Candidate(NamedTuple):
    """A feature that an ablation of a concept may take.

    text: its activation in the text code of the concept, or of its own name if that is a kind of
    the concept; the larger of both.
    """

    feature: int
    name: str
    text: float


def pools(
    edits: Sequence[Edit],
    wishes: Mapping[int, Wishes],
    chosen: Mapping[int, Sequence[int]],
    text_code: Mapping[str, Tensor],
    usable: NDArray[np.bool_],
    atlas: FeatureAtlas,
) -> dict[int, tuple[Candidate, ...]]:
    """The pool of each ablated concept, by its place in the request; none where its own are all.

    wishes, chosen: what each edit asked for, and got. text_code: of each concept (features,).
    usable: (features,), whether a concept may have it. No two edits of one place get the same one.
    """
    ablated = [i for i in wishes if edits[i].op == "ablate"]
    lacking = {i: MAX_K - len(chosen[i]) for i in ablated}
    next_ones = share_out(edits, _free(edits, {i: wishes[i] for i in ablated}, chosen), lacking)
    had = {i: [*own, *next_ones.get(i, ())] for i, own in chosen.items()}
    kinds = {i: _kinds(edits[i], text_code, usable, atlas) for i in ablated}
    rest = _free(edits, kinds, had)
    more = share_out(edits, rest, {i: len(rest[i]) for i in ablated})
    out = {}
    for i in ablated:
        pool = [*had[i], *more[i]]
        if len(pool) > len(chosen[i]):
            own = text_code[normalise(edits[i].concept or "")][pool].tolist()
            claims = dict(kinds[i])
            out[i] = tuple(
                Candidate(f, atlas.names[f], max(text, claims.get(f, 0.0)))
                for f, text in zip(pool, own, strict=True)
            )
    return out


def _kinds(
    edit: Edit, text_code: Mapping[str, Tensor], usable: NDArray[np.bool_], atlas: FeatureAtlas
) -> Wishes:
    """Features of the concept's kinds with the activations of their names, the largest first."""
    concept = normalise(edit.concept or "")
    found = [f for f in features_of_kinds(concept, atlas, text_code[concept]) if usable[f]]
    scores = atlas.name_score[found].tolist()
    claims = [(f, score) for f, score in zip(found, scores, strict=True) if score > 0]
    return sorted(claims, key=lambda claim: -claim[1])


def _free(
    edits: Sequence[Edit], wishes: Mapping[int, Wishes], had: Mapping[int, Sequence[int]]
) -> dict[int, Wishes]:
    """The wishes for what no edit has that reaches the same image.

    Whatever its region: those apart may round to one cell, and what an edit takes of its pool is
    known with the photograph only.
    """
    out = {}
    for i in wishes:
        near = [j for j in had if same_image(edits[i], edits[j])]
        taken = {feature for j in near for feature in had[j]}
        out[i] = [wish for wish in wishes[i] if wish[0] not in taken]
    return out
