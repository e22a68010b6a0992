"""From edits to features: which features a concept becomes and what each dose is in raw units.

After Sparse CLIP (arXiv 2601.20075), which takes the K largest entries of the concept's text code. Here
an entry counts by its *claim*: text activation times the feature's 99th percentile in images, so
that features which only texts use have none; and features that are active on more than 30 % of
images are left out (they carry scenes, not concepts). All edits of one request are resolved together,
because "dog" and "cat" share features: where two concepts want the same feature in the same place, it
goes to the one with the larger claim, and the other takes its next best.

Which features of a thing are active differs from photograph to photograph, and to ablate what is not
there takes nothing away. So an ablated concept comes with a pool, of which each photograph has those
taken that it shows (pools.py, apply.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas, concept_codes
from sparse_encoder.errors import SparsightError
from vlm.default_dose import default_dose
from vlm.edits import (
    DEFAULT_K,
    MAX_DOSE,
    MAX_K,
    MAX_TOUCHED,
    Edit,
    refuse_missing_feature,
    refuse_too_many,
)
from vlm.known_concepts import normalise, refuse_unknown
from vlm.pools import Candidate, pools
from vlm.share_out import Wishes, same_place, share_out

# A feature that is active on more images than this belongs to no one concept. A tenth, the usual
# cut, drops the main features of common things: with it, ablating the 16 best features of "dog" left
# 86 % of the similarity of dog photographs to the word, with three tenths 33 % (cat: 74 and 10 %).
MAX_DENSITY = 0.30


@dataclass(frozen=True)
class ResolvedEdit:
    """An edit with its features and doses, one entry a feature, strongest claim first.

    pool: of an ablated concept these features, the next ones up to MAX_K, and those of its kinds; empty
    where there are no others.
    """

    edit: Edit
    features: tuple[int, ...]
    names: tuple[str, ...]  # of the atlas, "" where a feature has none
    raw_values: tuple[float, ...]  # dose in raw units; 0 for ablate, the factor for scale
    p99_values: tuple[float, ...]  # the same in multiples of p99; for scale the factor again
    pool: tuple[Candidate, ...] = ()


def resolve(
    edits: Sequence[Edit],
    atlas: FeatureAtlas,
    encode_text: Callable[[list[str]], Tensor],
    *,
    param: str = "steering.edits",
) -> tuple[ResolvedEdit, ...]:
    """The edits of one request with features and raw doses, in the same order.

    encode_text: texts to dense codes (n, features); called at most once. Raises SparsightError
    (UnknownConceptError for an unknown concept), with `param` such as
    ``steering.edits[2].concept``, where an edit cannot be carried out in full.
    """
    refuse_too_many(len(edits), param)
    wanted: dict[str, None] = {}
    for i, edit in enumerate(edits):
        if edit.concept is None:
            _check_feature(edit, atlas, f"{param}[{i}]")
        else:
            concept = normalise(edit.concept)
            refuse_unknown(concept, atlas, f"{param}[{i}].concept")
            wanted[concept] = None
    _refuse_same_target(edits, param)
    codes = concept_codes(list(wanted), encode_text).float().cpu() if wanted else torch.empty(0)
    text_code = dict(zip(wanted, codes, strict=True))
    usable = atlas.density <= MAX_DENSITY
    wanted_by = _wishes(edits, text_code, atlas.p99 * usable)
    ks = {i: edits[i].k or DEFAULT_K for i in wanted_by}
    chosen = share_out(edits, wanted_by, ks)
    for i, edit in enumerate(edits):
        if edit.feature is not None:
            chosen[i] = [edit.feature]
        elif not chosen[i]:
            _refuse_featureless(edits[i], bool(wanted_by[i]), f"{param}[{i}].concept")
    _refuse_feature_collisions(edits, chosen, param)
    n_touched = len({feature for features in chosen.values() for feature in features})
    if n_touched > MAX_TOUCHED:
        raise SparsightError(
            f"the edits touch {n_touched} features, at most {MAX_TOUCHED} are allowed; "
            f"use fewer concepts or a smaller k",
            param=param,
        )
    out = [_with_doses(edit, chosen[i], atlas, f"{param}[{i}]") for i, edit in enumerate(edits)]
    for i, pool in pools(edits, wanted_by, chosen, text_code, usable, atlas).items():
        out[i] = replace(out[i], pool=pool)
    return tuple(out)


def _check_feature(edit: Edit, atlas: FeatureAtlas, param: str) -> None:
    refuse_missing_feature(edit, atlas.n_features, param)
    if edit.feature is not None and atlas.dead[edit.feature]:
        raise SparsightError(
            f"feature {edit.feature} is dead: it was active on no reference image, so it has no "
            f"meaning and no dose; choose another",
            param=f"{param}.feature",
            code="dead_feature",
        )


def _refuse_same_target(edits: Sequence[Edit], param: str) -> None:
    """Twice the same concept in one place cannot be shared out, it is a contradiction."""
    for j, later in enumerate(edits):
        for i, earlier in enumerate(edits[:j]):
            if later.concept is None or earlier.concept is None or not same_place(earlier, later):
                continue
            if normalise(earlier.concept) == normalise(later.concept):
                raise SparsightError(
                    f"edits {i} and {j} both touch concept {later.concept!r} in the same place; "
                    f"leave one out or give them regions or images apart",
                    param=f"{param}[{j}].concept",
                    code="edits_collide",
                )


def _wishes(
    edits: Sequence[Edit], text_code: dict[str, Tensor], strength: NDArray[np.float32]
) -> dict[int, Wishes]:
    """What each concept edit asks for, by its place in the request, the largest claim first.

    strength: (features,), of each in images, 0 where no concept may have it.
    """
    concepts = {i: normalise(e.concept) for i, e in enumerate(edits) if e.concept is not None}
    # No edit asks further down, for its pool neither: each feature that it did not get, another has.
    limit = MAX_K * len(edits)
    # What a feature can add to the similarity with the text: its text activation times how strong
    # it gets in images. A feature that only texts use has no claim.
    weight = torch.from_numpy(strength)
    ranked = {concept: _ranking(code * weight, limit) for concept, code in text_code.items()}
    return {i: ranked[concept] for i, concept in concepts.items()}


def _ranking(claim: Tensor, limit: int) -> Wishes:
    """The largest `limit` of the positive entries of (features,), largest first, ties by index."""
    order = claim.argsort(descending=True, stable=True)[:limit]
    order = order[claim[order] > 0]
    return list(zip(order.tolist(), claim[order].tolist(), strict=True))


def _refuse_featureless(edit: Edit, had_wishes: bool, param: str) -> None:
    why = (
        "other concepts of this request have a stronger claim on all of its features"
        if had_wishes
        else f"no live feature that is active on at most {MAX_DENSITY:.0%} of images answers to it"
    )
    raise SparsightError(
        f"concept {edit.concept!r} has no feature to edit: {why}; try another word",
        param=param,
        code="no_feature",
    )


def _refuse_feature_collisions(
    edits: Sequence[Edit], chosen: dict[int, list[int]], param: str
) -> None:
    for j, later in enumerate(edits):
        for i, earlier in enumerate(edits[:j]):
            shared = set(chosen[i]) & set(chosen[j])
            if shared and same_place(earlier, later):
                key = "concept" if later.feature is None else "feature"
                raise SparsightError(
                    f"edits {i} ({earlier.label}) and {j} ({later.label}) both touch feature "
                    f"{min(shared)} in the same place; leave one out or give them regions or "
                    f"images apart",
                    param=f"{param}[{j}].{key}",
                    code="edits_collide",
                )


def _with_doses(edit: Edit, features: list[int], atlas: FeatureAtlas, param: str) -> ResolvedEdit:
    raw, p99 = [], []
    value = _value(edit, atlas, param)
    for feature in features:
        scale = float(atlas.p99[feature])
        if edit.op == "ablate":
            pair = 0.0, 0.0
        elif edit.op == "scale":
            pair = value, value
        elif edit.unit == "p99":
            pair = value * scale, value
        else:
            pair = value, value / scale
        if pair[1] > MAX_DOSE:
            raise SparsightError(
                f"a dose of {value:g} raw is {pair[1]:.3g} p99 of feature {feature}, above the "
                f"limit of {MAX_DOSE:g} p99 ({MAX_DOSE * scale:.3g} raw)",
                param=f"{param}.value",
            )
        raw.append(pair[0])
        p99.append(pair[1])
    names = tuple(atlas.names[feature] for feature in features)
    return ResolvedEdit(edit, tuple(features), names, tuple(raw), tuple(p99))


def _value(edit: Edit, atlas: FeatureAtlas, param: str) -> float:
    """The number of an edit; that of a clamp without one is its target's effective dose."""
    if edit.value is not None or edit.op != "clamp":
        return float(edit.value or 0.0)
    return default_dose(edit, atlas, f"{param}.value")
