"""Codes a block at a time: some rows, some features, computed, used and forgotten.

The parts that the losses of chunked_loss.py share: how large a block is, a tower that gives codes
of a block and takes their gradients, and the similarities of some images with some texts.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sparse_encoder.errors import SparsightError

_EPS = 1e-6  # as contrastive.unit
DEFAULT_BUDGET = 512 * 2**20  # bytes: one tile up to 8,192 pairs


@dataclass(frozen=True)
class Blocking:
    """How much is computed at a time; it changes memory and time, and results by rounding only."""

    images: int  # rows of a tile of similarities
    texts: int  # columns of a tile
    features: int  # of a chunk of codes

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise SparsightError(
                    f"a block of {value} {name}: expected 1 or more; leave the blocking out for "
                    "one that suits the batch",
                    param=name,
                )

    @classmethod
    def within(
        cls, budget: int, images: int, texts: int, features: int, device: str = "cpu"
    ) -> "Blocking":
        """The fewest tiles of `images` x `texts` that keep to `budget` bytes, where it allows any.

        Half of it is for the tile (fp32), half for a chunk of both towers' codes and their
        gradients. The gradients of trunk outputs and heads come on top, as for any loss. A chunk
        has 64 features or more, since thinner products are slow; and at most 256 on a CPU, where
        2,048 took as long on two cores and three times the memory, or 1,024 on other devices.
        """
        half = max(4, budget // 2)
        entries, side = half // 4, math.isqrt(half // 4)
        rows = _even_part(images, max(side, entries // texts))
        columns = _even_part(texts, max(side, entries // rows))
        widest = half // (2 * 4 * (rows + columns))
        most = 256 if device == "cpu" else 1024
        return cls(rows, columns, min(features, most, max(64, widest)))

    def tiles(self, n_images: int, n_texts: int) -> list[tuple[slice, slice]]:
        """(rows, columns) of all tiles, one row of tiles after another."""
        columns = cuts(n_texts, self.texts)
        return [(i, j) for i in cuts(n_images, self.images) for j in columns]


def cuts(n: int, size: int) -> list[slice]:
    """0 .. n in slices of `size`; the last may be shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _even_part(n: int, most: int) -> int:
    """The size of a part when n falls into as few even parts as `most` allows."""
    return math.ceil(n / math.ceil(n / most))


class Tower:
    """One side of the loss: rows of trunk outputs, and the head that makes codes of them.

    It never holds a code. `count` keeps each row's squared length and number of active features.
    """

    def __init__(
        self, x: Tensor, weight: Tensor, bias: Tensor, activation: str, dtype: torch.dtype
    ) -> None:
        """dtype: of the codes; sums are float64 if it is, else float32."""
        self.x, self.weight, self.bias = x.to(dtype), weight, bias
        self.relu, self.dtype = activation == "relu", dtype
        self.total = torch.float64 if dtype == torch.float64 else torch.float32
        # CUDA multiplies half-precision factors into fp32 sums. A CPU has no such product, so
        # there the codes are rounded to `dtype` all the same and then multiplied as fp32.
        self.factor = dtype if x.is_cuda else self.total
        self.square = x.new_zeros(len(x), dtype=self.total)
        self.n_active = x.new_zeros(len(x), dtype=self.total)  # of each row
        self.active = x.new_zeros(len(weight), dtype=torch.bool)  # each feature, in any row
        self.dx: Tensor | None = None
        self.d_weight: Tensor | None = None
        self.d_bias: Tensor | None = None

    def code(self, rows: slice, chunk: slice) -> Tensor:
        """A block of codes (rows, chunk), un-normalised."""
        weight, bias = self.weight[chunk].to(self.dtype), self.bias[chunk].to(self.dtype)
        code = functional.linear(self.x[rows], weight, bias)
        return (code.relu_() if self.relu else code).to(self.factor)

    def count(self, rows: slice, chunk: slice, code: Tensor) -> None:
        """Adds a block to the counts; each block once."""
        active = code.sign().abs_()  # 0 or 1
        self.square[rows] += torch.linalg.vector_norm(code, dim=1, dtype=self.total).square_()
        self.n_active[rows] += active.sum(1, dtype=self.total)
        self.active[chunk] |= active.amax(0) > 0

    def inverse_norm(self, rows: slice) -> Tensor:
        """1 / length of the codes (rows,), the length being at least eps."""
        return 1 / self.square[rows].sqrt().clamp_min_(_EPS)

    def norm_gradient(self, rows: slice, pull: Tensor) -> Tensor:
        """Factor of each code (rows,) in its own gradient; pull: sum_j H_ij S_ij (rows,).

        A row shorter than eps is divided by a constant, so its length has no gradient.
        """
        inverse = self.inverse_norm(rows)
        return -pull * inverse.square() * (self.square[rows].sqrt() >= _EPS)

    def want_gradients(self, x: bool, weight: bool, bias: bool) -> None:
        """Makes room for the gradients that `pull` adds up; None stays where none is wanted."""
        self.dx = torch.zeros_like(self.x, dtype=self.total) if x else None
        self.d_weight = torch.zeros_like(self.weight, dtype=self.total) if weight else None
        self.d_bias = torch.zeros_like(self.bias, dtype=self.total) if bias else None

    @property
    def wanted(self) -> bool:
        return not (self.dx is None and self.d_weight is None and self.d_bias is None)

    def pull(self, rows: slice, chunk: slice, code: Tensor, d_code: Tensor) -> None:
        """Adds the gradients through a block, given that of its codes (overwritten)."""
        if self.relu:
            d_code.mul_(code.sign())
        factor = d_code.to(self.factor)
        if self.dx is not None:
            weight = self.weight[chunk].to(self.dtype).to(self.factor)
            add_product(self.dx[rows], factor, weight)
        if self.d_weight is not None:
            add_product(self.d_weight[chunk], factor.T, self.x[rows].to(self.factor))
        if self.d_bias is not None:
            self.d_bias[chunk] += d_code.sum(0)


def similarities(
    images: Tower,
    texts: Tower,
    i: slice,
    j: slice,
    chunk_size: int,
    first: tuple[bool, bool] = (False, False),
) -> Tensor:
    """Cosine similarities of images i and texts j, summed over chunks of features.

    first: whether these images, and these texts, have not been counted yet.
    """
    shape = (i.stop - i.start, j.stop - j.start)
    tile = images.square.new_zeros(shape)
    for chunk in cuts(len(images.weight), chunk_size):
        image, text = images.code(i, chunk), texts.code(j, chunk)
        if first[0]:
            images.count(i, chunk, image)
        if first[1]:
            texts.count(j, chunk, text)
        add_product(tile, image, text.T)
    return tile.mul_(images.inverse_norm(i)[:, None]).mul_(texts.inverse_norm(j))


def pull_similarities(
    images: Tower,
    texts: Tower,
    i: slice,
    j: slice,
    d_similarity: Tensor,
    row_sum: Tensor,
    column_sum: Tensor,
    chunk_size: int,
) -> None:
    """Adds the gradients through one tile of `similarities` to both towers.

    d_similarity: H = dL/dS (i, j), overwritten. row_sum (i,), column_sum (j,): of H S.
    """
    m = d_similarity.mul_(images.inverse_norm(i)[:, None]).mul_(texts.inverse_norm(j))
    m = m.to(images.factor)
    image_factor = images.norm_gradient(i, row_sum)[:, None]
    text_factor = texts.norm_gradient(j, column_sum)[:, None]
    for chunk in cuts(len(images.weight), chunk_size):
        image, text = images.code(i, chunk), texts.code(j, chunk)
        if images.wanted:
            d_image = image * image_factor
            add_product(d_image, m, text)
            images.pull(i, chunk, image, d_image)
        if texts.wanted:
            d_text = text * text_factor
            add_product(d_text, m.T, image)
            texts.pull(j, chunk, text, d_text)


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, summed in total's dtype even where the factors are bf16 or fp16."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += torch.mm(a, b, out_dtype=total.dtype)
