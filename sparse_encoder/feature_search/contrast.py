"""Features that tell some images from others: active on these, not on those.

An image's vote for a feature is its activation in multiples of the feature's p99, at most 1, so that
one bright image does not outweigh ten. A feature's contrast is the mean vote of the images it should
be active on minus that of the others, in [-1, 1]. Of equal contrasts, as one image gives many, the
feature with the larger mean activation in p99, without the cut, goes first. Images pass one by one;
only sums are kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Contrasted:
    """One feature that tells the two groups of images apart."""

    feature: int
    contrast: float  # (0, 1]: mean vote on minus mean vote off
    on: float  # mean vote of the images it should be active on, [0, 1]
    off: float  # of the others; without others what the atlas leads one to expect of any image
    share_on: float  # share of the images on which it is active at all, [0, 1]
    share_off: float


def contrast(
    atlas: FeatureAtlas, on: Iterable[Codes], off: Iterable[Codes] = (), *, limit: int = 20
) -> list[Contrasted]:
    """The `limit` features with the largest contrast above 0, largest first.

    on, off: codes of one or more images each (cells are not looked at). Without `off` the reference
    set stands in for it: a feature's density times its median activation. Dead features have no
    unit and are left out. Raises SparsightError without images in `on`, or for codes of another width.
    """
    ons, offs = _mean_votes(atlas, on, "on"), _mean_votes(atlas, off, "off")
    if ons.n_images == 0:
        raise SparsightError(
            "there is no image that the features should be active on; give at least one",
            param="on",
            code="no_images",
        )
    if offs.n_images == 0:
        offs = _expected_votes(atlas)
    difference = np.where(atlas.dead, 0.0, ons.vote - offs.vote)
    order = np.lexsort((-ons.in_p99, -difference))[:limit]  # the last key counts first
    return [
        Contrasted(
            feature=int(j),
            contrast=float(difference[j]),
            on=float(ons.vote[j]),
            off=float(offs.vote[j]),
            share_on=float(ons.active[j]),
            share_off=float(offs.active[j]),
        )
        for j in order
        if difference[j] > 0
    ]


@dataclass(frozen=True)
class _Votes:
    """Means over images, each (features,)."""

    vote: FloatArray  # [0, 1]
    in_p99: FloatArray  # the same without the cut
    active: FloatArray  # share of images, [0, 1]
    n_images: int


def _mean_votes(atlas: FeatureAtlas, images: Iterable[Codes], param: str) -> _Votes:
    vote, uncut, active, n = *(np.zeros(atlas.n_features) for _ in range(3)), 0
    for codes in images:
        if codes.n_features != atlas.n_features:
            raise SparsightError(
                f"the codes have {codes.n_features} features, the atlas {atlas.n_features}; "
                f"encode the images with the atlas' own model",
                param=param,
                code="other_model",
            )
        for i in range(codes.n_images):
            lo = int(codes.offset[i * (1 + codes.n_cells)])
            hi = int(codes.offset[i * (1 + codes.n_cells) + 1])
            feature = codes.index[lo:hi].numpy()  # of the global code, each once
            in_p99 = codes.value[lo:hi].numpy() / np.maximum(atlas.p99[feature], 1e-12)
            vote[feature] += np.minimum(in_p99, 1.0)
            uncut[feature] += in_p99
            active[feature] += 1
            n += 1
    return _Votes(vote / max(n, 1), uncut / max(n, 1), active / max(n, 1), n)


def _expected_votes(atlas: FeatureAtlas) -> _Votes:
    """What an image of the reference set votes on average, from the median of its activations."""
    density = atlas.density.astype(np.float64)
    in_p99 = density * atlas.p50 / np.where(atlas.p99 > 0, atlas.p99, 1.0)
    return _Votes(np.minimum(in_p99, density), in_p99, density, 0)
