"""Which earlier feature does what a later one does: the best correlation over one image set.

r(f, g) = (mean(f g) - mean(f) mean(g)) / (deviation(f) deviation(g)), Pearson's, over the images'
global activations. Features x features numbers are never held: a block of later features is summed
against all earlier ones while the images stream past, and leaves its best match behind.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.codes import Codes

HELD = 1 << 26  # products held at once: 268 MB in float32, 1,213 features of 55,296

Batches = Callable[[], Iterator[Codes]]  # a new pass over the images, always in the same batches


@dataclass(frozen=True)
class Moments:
    """Mean and deviation of each feature's activation over all images, (features,) float64."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Matches:
    """For each later feature; NaN or -1 where it, or all earlier ones, are equal on all images."""

    own: Tensor  # (features,) correlation with the earlier feature of the same index, [-1, 1]
    best: Tensor  # (features,) the largest correlation with any earlier feature, [-1, 1]
    index: Tensor  # (features,) int64 of that feature; the lowest of equals


def best_matches(
    later: Batches,
    earlier: Batches,
    moments: tuple[Moments, Moments],
    n_images: int,
    *,
    held: int = HELD,
    told: Callable[[int], None] = lambda _: None,
) -> Matches:
    """The best match of every later feature among all earlier ones.

    moments: of later and earlier. held: products held at once. told: called with the number of
    features done. One pass over the images for each block of features.
    """
    one, other = moments
    n_later, n_earlier = len(one.mean), len(other.mean)
    own, best = (torch.full((n_later,), torch.nan) for _ in range(2))
    index = torch.full((n_later,), -1, dtype=torch.int64)
    size = max(1, held // n_earlier)
    for start in range(0, n_later, size):
        told(start)
        stop = min(start + size, n_later)
        products = _summed_products(later, earlier, start, stop, n_earlier)
        block = Moments(one.mean[start:stop], one.deviation[start:stop])
        _to_correlation(products, block, other, n_images)
        place = torch.arange(start, min(stop, n_earlier))
        own[place] = products[place - start, place]
        value, at = products.nan_to_num(-torch.inf).max(1)
        at = _lowest_of_equals(products, value, at)
        known = value > -torch.inf
        best[start:stop] = torch.where(known, value, torch.nan)
        index[start:stop] = torch.where(known, at, -1)
    told(n_later)
    return Matches(own, best, index)


def _summed_products(
    later: Batches, earlier: Batches, start: int, stop: int, n_earlier: int
) -> Tensor:
    """Sum over images of f g for the later features start..stop, (stop - start, n_earlier)."""
    total = torch.zeros(stop - start, n_earlier)
    for f, g in zip(later(), earlier(), strict=True):
        image = torch.repeat_interleave(torch.arange(f.n_rows), f.offset.diff())
        inside = (f.index >= start) & (f.index < stop)
        place = torch.stack([f.index[inside] - start, image[inside]])
        shape = (stop - start, f.n_rows)
        mine = torch.sparse_coo_tensor(place, f.value[inside], shape, check_invariants=True)
        total += torch.sparse.mm(mine, g.dense())
    return total


def _to_correlation(products: Tensor, one: Moments, other: Moments, n_images: int) -> None:
    """Turns sums of products into correlations, in place; NaN where a deviation is 0."""
    products /= max(n_images, 1)
    products.addr_(one.mean.float(), other.mean.float(), alpha=-1)
    products /= one.deviation.float()[:, None]
    products /= other.deviation.float()
    products.clamp_(-1, 1)  # what rounding puts beyond
    products.masked_fill_((other.deviation == 0)[None], torch.nan)
    products.masked_fill_((one.deviation == 0)[:, None], torch.nan)


def _lowest_of_equals(products: Tensor, value: Tensor, at: Tensor) -> Tensor:
    """max takes any of equal columns; what is printed must not depend on that."""
    rows = torch.arange(len(products)).split(64)
    return (
        torch.cat([(products[r] == value[r, None]).int().argmax(1) for r in rows])
        if len(at)
        else at
    )
