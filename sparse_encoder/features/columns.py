"""Codes of a bounded number of images by feature: blocks of columns come out dense."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.features.shard_codes import ShardCodes, draw_of


@dataclass(frozen=True)
class ImageColumns:
    """Sparse columns of the codes of some images, and what is said of each image."""

    image: Tensor  # (nnz,) int64, by feature
    value: Tensor  # (nnz,)
    offset: Tensor  # (features + 1,) where each feature's entries begin
    texts: list[list[str]]

    @property
    def n_images(self) -> int:
        return len(self.texts)

    def dense(self, start: int, stop: int, n_images: int | None = None) -> Tensor:
        """Activations (images, stop - start) of the features start..stop, of the first images."""
        lo, hi = int(self.offset[start]), int(self.offset[stop])
        column = torch.repeat_interleave(
            torch.arange(stop - start), self.offset[start : stop + 1].diff()
        )
        n = self.n_images if n_images is None else min(n_images, self.n_images)
        image, value = self.image[lo:hi], self.value[lo:hi]
        kept = image < n
        out = torch.zeros(n, stop - start)
        out[image[kept], column[kept]] = value[kept]
        return out


def read_columns(
    shards: Iterable[ShardCodes], n_features: int, held_out: bool, at_most: int
) -> ImageColumns:
    """Of the images that are held out, or that are not, the `at_most` with the smallest draw, in order of it.

    So the choice depends on ids alone, not on the order of shards. Holds at_most codes as rows.
    """
    heap: list[tuple[int, int, Codes, list[str]]] = []  # of the negative draw: the largest on top
    n_seen = 0
    for shard in shards:
        for i, key in enumerate(shard.keys):
            n_seen += 1
            if shard.is_held_out(i) != held_out:
                continue
            draw = draw_of(key)
            if len(heap) < at_most:
                heapq.heappush(heap, (-draw, -n_seen, shard.codes.image(i), shard.texts[i]))
            elif -draw > heap[0][0]:
                heapq.heapreplace(heap, (-draw, -n_seen, shard.codes.image(i), shard.texts[i]))
    rows = sorted(heap, key=lambda row: (-row[0], -row[1]))
    if not rows:
        empty = torch.zeros(0, dtype=torch.int64)
        offset = torch.zeros(n_features + 1, dtype=torch.int64)
        return ImageColumns(empty, torch.zeros(0), offset, [])
    codes = Codes.cat([row[2] for row in rows])
    image = torch.repeat_interleave(torch.arange(codes.n_rows), codes.offset.diff())
    order = codes.index.argsort(stable=True)
    offset = torch.zeros(n_features + 1, dtype=torch.int64)
    offset[1:] = torch.bincount(codes.index, minlength=n_features).cumsum(0)
    return ImageColumns(image[order], codes.value[order], offset, [row[3] for row in rows])
