"""Contrastive losses that never hold the codes: InfoNCE and SigLIP by chunks of features.

Per tower    z_i = relu(W x_i + b)    r_i = 1 / max(|z_i|, eps)
Similarity   G_ij = <zx_i, zy_j>      S_ij = rx_i G_ij ry_j      A_ij = s S_ij + o
InfoNCE      L = (1/B) [ sum_i (logsumexp_j A_ij + logsumexp_j A_ji) / 2 - sum_i A_ii ]
SigLIP       L = (1/B) [ sum_ij log(1 + exp A_ij) - sum_i A_ii ]
Both         E = dL/dA = (P - I) / B    M_ij = s rx_i E_ij ry_j    ux_i = s sum_j E_ij S_ij
             dzx = [zx > 0] (M zy - diag(ux rx^2) zx)    dx = dzx W    dW = dzx^T x    db = sum_i dzx_i

P is what A makes of the pairs: (softmax over rows + softmax over columns) / 2, or the sigmoid.

G and |z|^2 are sums over features, so a chunk of codes lives only while its products run, and the
backward pass computes it again. A tile of G must be finished before its gradient can begin: where
one tile covers the batch it is kept for the backward pass, otherwise each is rebuilt.

Cost, with p = 2 B W D for a projection and g = 2 B^2 D for the similarities: the plain loss takes
6p + 3g, this one 8p + 3g with one tile and 5(a + b)p + 4g with a x b tiles. So the larger the tile
the quicker: `Blocking.within` takes the largest that a budget of bytes allows.

Sources: CLIP (Radford et al. 2021); SigLIP (Zhai et al. 2023, arXiv 2303.15343); Sparse CLIP (arXiv
2601.20075), whose width ended where the codes no longer fitted. Nothing here approximates.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead
from sparse_encoder.pretrain.code_chunks import (
    DEFAULT_BUDGET,
    Blocking,
    Tower,
    cuts,
    pull_similarities,
    similarities,
)
from sparse_encoder.pretrain.rank_gather import Ranks

_STRIP = 256  # rows of a tile whose logits are held at a time, so that no second tile is


class CodeCounts(NamedTuple):
    """How sparse one tower's codes are over the whole batch of all ranks; 0-d tensors."""

    l0: Tensor  # mean number of active features in a row
    active_features: Tensor  # features that are active in some row
    empty_rows: Tensor  # rows with no active feature: similarity 0, no gradient


class ContrastiveResult(NamedTuple):
    """The loss of the whole batch, the same on every rank, and what was counted on the way."""

    loss: Tensor  # 0-d
    image: CodeCounts
    text: CodeCounts


def chunked_infonce(
    image: Tensor,
    text: Tensor,
    image_head: SparseHead,
    text_head: SparseHead,
    scale: Tensor,
    blocking: Blocking | None = None,
    group: dist.ProcessGroup | None = None,
) -> ContrastiveResult:
    """CLIP's loss of the heads' codes; pair i is image i and text i.

    image: (batch, image width), text: (batch, text width), this rank's trunk outputs. scale: 0-d,
    from `similarity_scale`. blocking: default within DEFAULT_BUDGET. group: the ranks that share
    the batch, default all. Each holds `batch` pairs and gets the loss of all of them; the mean over
    ranks of their gradients, which DDP takes, is the gradient of one process with the whole batch.
    Codes have autocast's dtype where that is on, else the inputs'; all sums are fp32 or better.
    Raises SparsightError for shapes that do not fit together and for unequal batches.
    """
    return _contrast(image, text, (image_head, text_head), scale, None, blocking, Ranks(group))


def chunked_siglip(
    image: Tensor,
    text: Tensor,
    image_head: SparseHead,
    text_head: SparseHead,
    scale: Tensor,
    offset: Tensor,
    blocking: Blocking | None = None,
    group: dist.ProcessGroup | None = None,
) -> ContrastiveResult:
    """SigLIP's loss of the heads' codes; arguments as for `chunked_infonce`.

    offset: 0-d, added to every logit. SigLIP's paper starts it at -10 and the scale at 10.
    """
    return _contrast(image, text, (image_head, text_head), scale, offset, blocking, Ranks(group))


def _contrast(
    image: Tensor,
    text: Tensor,
    heads: tuple[SparseHead, SparseHead],
    scale: Tensor,
    offset: Tensor | None,
    blocking: Blocking | None,
    ranks: Ranks,
) -> ContrastiveResult:
    """SigLIP with an offset, InfoNCE without."""
    _require_fit(image, text, *heads)
    ranks.require_equal(len(image), image.device)
    n, features, device = len(image), len(heads[0].weight), image.device.type
    blocking = blocking or Blocking.within(DEFAULT_BUDGET, n, n * ranks.n, features, device)
    dtype = torch.promote_types(image.dtype, text.dtype)
    dtype = torch.promote_types(dtype, heads[0].weight.dtype)
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    setup = _Setup((heads[0].activation, heads[1].activation), dtype, blocking, ranks)
    parameters = [p for head in heads for p in (head.weight, head.bias)]
    found: tuple[Tensor, ...] = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        image, text, *parameters, scale, offset, setup
    )
    return ContrastiveResult(found[0], CodeCounts(*found[1:4]), CodeCounts(*found[4:]))


@dataclass(frozen=True)
class _Setup:
    """What the forward and the backward pass must agree on."""

    activations: tuple[str, str]  # of the image and the text head
    dtype: torch.dtype  # of the codes
    blocking: Blocking
    ranks: Ranks

    def towers(self, x: Tensor, y: Tensor, *heads: Tensor) -> tuple[Tower, Tower]:
        """heads: weight and bias of the images', then of the texts'."""
        images = Tower(x, heads[0], heads[1], self.activations[0], self.dtype)
        return images, Tower(y, heads[2], heads[3], self.activations[1], self.dtype)


class _ChunkedLoss(torch.autograd.Function):
    """Trunk outputs, weights and biases of both heads, scale and offset -> loss and counts."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        wx: Tensor,
        bx: Tensor,
        wy: Tensor,
        by: Tensor,
        scale: Tensor,
        offset: Tensor | None,
        setup: _Setup,
    ) -> tuple[Tensor, ...]:
        blocking, ranks, n = setup.blocking, setup.ranks, len(x)
        y = ranks.gather_rows(y.to(setup.dtype))
        ctx.save_for_backward(x, y, wx, bx, wy, by, scale, offset)
        ctx.setup = setup
        with torch.autocast(x.device.type, enabled=False):
            images, texts = setup.towers(x, y, wx, bx, wy, by)
            pairs = _Sigmoid(images) if offset is not None else _Softmax(images, texts)
            positive = torch.zeros_like(images.square)  # A_ii
            tiles = blocking.tiles(n, len(y))
            for i, j in tiles:
                first = (j.start == 0, i.start == 0)
                tile = similarities(images, texts, i, j, blocking.features, first)
                for rows, strip in _strips(tile, i):
                    logits = _logits(strip, scale, offset)
                    pairs.see(logits, rows, j)
                    shift = ranks.rank * n + rows.start - j.start
                    _put_diagonal(positive[rows], logits.diagonal(shift), shift)
            ctx.tile = tile if len(tiles) == 1 else None
            ctx.pairs, ctx.squares = pairs, (images.square, texts.square)
            part = (pairs.log_partition(ranks) - positive).sum()
            image_empty, text_empty = ((t.n_active == 0).sum() for t in (images, texts))
            sums = torch.stack([part, images.n_active.sum(), image_empty.to(part.dtype)])
            total, n_active, n_empty = ranks.sum(sums)
            image_active = ranks.any(images.active).sum()
        counts = (
            *(n_active / len(y), image_active, n_empty.long()),
            *(texts.n_active.mean(), texts.active.sum(), text_empty),
        )
        ctx.mark_non_differentiable(*counts)
        return total / len(y), *counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, y, wx, bx, wy, by, scale, offset = ctx.saved_tensors
        setup: _Setup = ctx.setup
        blocking, ranks, n = setup.blocking, setup.ranks, len(x)
        # Ranks hold parts of one loss, and DDP takes the mean of what should be their sum.
        grad = grad * ranks.n / len(y)
        with torch.autocast(x.device.type, enabled=False):
            images, texts = setup.towers(x, y, wx, bx, wy, by)
            images.square, texts.square = ctx.squares
            need_x, need_y, need_wx, need_bx, need_wy, need_by = ctx.needs_input_grad[:6]
            images.want_gradients(need_x, need_wx, need_bx)
            texts.want_gradients(need_y, need_wy, need_by)
            d_scale, d_offset = grad.new_zeros(()), grad.new_zeros(())
            for i, j in blocking.tiles(n, len(y)):
                # A kept tile is overwritten, so a second backward pass has to rebuild it.
                tile, ctx.tile = ctx.tile, None
                if tile is None:
                    tile = similarities(images, texts, i, j, blocking.features)
                row_sum, column_sum = [], tile.new_zeros(tile.shape[1])  # of E S
                for rows, strip in _strips(tile, i):
                    e = ctx.pairs.probability(_logits(strip, scale, offset), rows, j)
                    e.diagonal(ranks.rank * n + rows.start - j.start).sub_(1)
                    e.mul_(grad)
                    d_offset += e.sum()
                    strip.mul_(e)
                    row_sum.append(strip.sum(1))
                    column_sum += strip.sum(0)
                    strip.copy_(e)
                ux, uy = scale * torch.cat(row_sum), scale * column_sum
                d_scale += column_sum.sum()
                pull_similarities(images, texts, i, j, tile.mul_(scale), ux, uy, blocking.features)
            dy = None if texts.dx is None else ranks.sum_own_rows(texts.dx)
        image_gradients = (images.d_weight, images.d_bias)
        text_gradients = (texts.d_weight, texts.d_bias)
        shift_gradient = None if offset is None else d_offset
        return images.dx, dy, *image_gradients, *text_gradients, d_scale, shift_gradient, None


class _Softmax:
    """InfoNCE's P: the mean of the softmax over a row's texts and that over a column's images."""

    def __init__(self, images: Tower, texts: Tower) -> None:
        self.row = torch.full_like(images.square, -math.inf)  # log-sum-exp so far
        self.column = torch.full_like(texts.square, -math.inf)

    def see(self, logits: Tensor, rows: slice, columns: slice) -> None:
        """Takes in a block of A; each block once."""
        self.row[rows] = torch.logaddexp(self.row[rows], _logsumexp(logits, 1))
        self.column[columns] = torch.logaddexp(self.column[columns], _logsumexp(logits, 0))

    def log_partition(self, ranks: Ranks) -> Tensor:
        """What A_ii is subtracted from, for each own pair; ranks agree on the columns here."""
        self.column = ranks.logsumexp(self.column)
        own = slice(ranks.rank * len(self.row), (ranks.rank + 1) * len(self.row))
        return (self.row + self.column[own]) / 2

    def probability(self, logits: Tensor, rows: slice, columns: slice) -> Tensor:
        """A block of P, as a new tensor."""
        over_texts = (logits - self.row[rows, None]).exp_()
        return over_texts.add_((logits - self.column[columns]).exp_()).div_(2)


class _Sigmoid:
    """SigLIP's P: each pair for itself, so ranks have nothing to agree on."""

    def __init__(self, images: Tower) -> None:
        self.row = torch.zeros_like(images.square)  # sum of log(1 + exp A) so far

    def see(self, logits: Tensor, rows: slice, columns: slice) -> None:
        self.row[rows] -= functional.logsigmoid(-logits).sum(1)

    def log_partition(self, ranks: Ranks) -> Tensor:
        return self.row

    def probability(self, logits: Tensor, rows: slice, columns: slice) -> Tensor:
        return logits.sigmoid()


def _strips(tile: Tensor, i: slice) -> Iterator[tuple[slice, Tensor]]:
    """A tile's rows a few at a time: where they lie in the batch, and a view of them."""
    for cut in cuts(len(tile), _STRIP):
        yield slice(i.start + cut.start, i.start + cut.stop), tile[cut]


def _logits(similarity: Tensor, scale: Tensor, offset: Tensor | None) -> Tensor:
    logits = similarity * scale
    return logits if offset is None else logits.add_(offset)


def _logsumexp(logits: Tensor, dim: int) -> Tensor:
    """torch.logsumexp, which on a CPU takes five times as long."""
    top = logits.amax(dim, keepdim=True)
    return (logits - top).exp_().sum(dim).log_().add_(top.squeeze(dim))


def _put_diagonal(row: Tensor, diagonal: Tensor, shift: int) -> None:
    """Writes a block's diagonal, `shift` columns right of its corner, to the rows that it meets."""
    first = max(0, -shift)
    row[first : first + len(diagonal)] = diagonal


def _require_fit(
    image: Tensor, text: Tensor, image_head: SparseHead, text_head: SparseHead
) -> None:
    for name, x, head in (("image", image, image_head), ("text", text, text_head)):
        width = head.weight.shape[1]
        if x.ndim != 2 or x.shape[1] != width:
            raise SparsightError(
                f"{name} trunk outputs of shape {tuple(x.shape)}: expected (batch, {width}), "
                "the width that the head was made for",
                param=name,
            )
        if head.activation not in ("relu", "identity"):
            raise SparsightError(
                f"the {name} head's activation is {head.activation!r}: expected relu or identity; "
                "others look at a whole row of pre-codes, so use contrastive_loss",
                param="activation",
            )
    if len(image) != len(text) or len(image) == 0:
        raise SparsightError(
            f"{len(image)} images and {len(text)} texts: expected pairs, at least one",
            param="text",
        )
    if len(image_head.weight) != len(text_head.weight):
        raise SparsightError(
            f"heads of {len(image_head.weight)} and {len(text_head.weight)} features: expected "
            "one feature space, so give both the same number",
            param="features",
        )
