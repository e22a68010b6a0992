"""The likeness of a photograph and a text, feature by feature.

The cosine of two non-negative codes is a sum with one term for each feature that is active in both,
none of them negative: ``cos(a, b) = sum_j a_j b_j / (|a| |b|)``. So the terms are shares of the
likeness, and no feature speaks against it.
"""

from dataclasses import dataclass

from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from vlm.explain.strongest import global_code


@dataclass(frozen=True)
class SharedFeature:
    """A feature that is active in the photograph and in the text."""

    feature: int
    name: str
    image_activation: float  # in the global code, raw units
    text_activation: float  # raw units
    term: float  # of the cosine, > 0


@dataclass(frozen=True)
class Similarity:
    """``sum of all terms + rest = cosine``, to rounding."""

    text: str
    cosine: float  # of the two codes, [0, 1], higher is more alike; 0 where either is empty
    terms: tuple[SharedFeature, ...]  # the largest, largest first
    rest: float  # sum of the terms that are not listed
    n_shared: int  # features active in both, listed or not


def split_similarity(
    codes: Codes, text: str, text_code: Tensor, atlas: FeatureAtlas, top: int
) -> Similarity:
    """The `top` largest terms of the cosine between a photograph and a text.

    codes: of one photograph. text_code: (features,), non-negative.
    """
    image_code, text_code = global_code(codes).double(), text_code.double()
    norms = float(image_code.norm() * text_code.norm())
    terms = image_code * text_code / norms if norms > 0 else image_code * 0  # (features,)
    shared = terms.nonzero()[:, 0]
    order = shared[terms[shared].argsort(descending=True, stable=True)]
    return Similarity(
        text=text,
        cosine=float(image_code @ text_code) / norms if norms > 0 else 0.0,
        terms=tuple(
            SharedFeature(
                feature=j,
                name=atlas.names[j],
                image_activation=float(image_code[j]),
                text_activation=float(text_code[j]),
                term=float(terms[j]),
            )
            for j in order[:top].tolist()
        ),
        rest=float(terms[order[top:]].sum()),
        n_shared=len(shared),
    )
