"""The gate that every soft token passes before it leaves for vLLM.

vLLM takes NaN and infinite rows without a word, and such a row can spoil the answers of **other**
users in the same batch; a wrong shape may end its process; an all-zero row may be taken for a
position without an embedding, which its prefix cache does not tell apart (vllm-project/vllm#56655).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_encoder.errors import SparsightError

# sparsight-mini's soft tokens of 60 photographs (Flickr8k, held out) had norms from 4.8 to 94, and
# with 64 features clamped at the largest dose up to 247 (12 photographs, the features of the largest
# p99 and random ones). Models of a larger width have larger norms; a broken one is far beyond.
MAX_NORM = 1e4


class SoftTokenError(SparsightError):
    """Soft tokens that must not reach the language model."""

    code = "bad_soft_tokens"


def check_soft_tokens(soft: Sequence[Tensor], hidden: int) -> None:
    """Raises SoftTokenError unless each image has finite rows (tokens, hidden) of sane length.

    Sane: the norm of every row is above 0 and at most `MAX_NORM`.
    """
    for i, rows in enumerate(soft):
        why = _fault(rows, hidden)
        if why is not None:
            raise SoftTokenError(
                f"the soft tokens of image {i} {why}, so the request was not passed on; lower the "
                "doses of its edits",
                param="steering",
            )


def _fault(rows: Tensor, hidden: int) -> str | None:
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != hidden or not rows.is_floating_point():
        found = f"{tuple(rows.shape)} of {rows.dtype}"
        return f"have the shape {found}, expected (1 or more, {hidden}) of a floating type"
    if not bool(torch.isfinite(rows).all()):
        return "are not finite"
    norms = rows.float().norm(dim=1)  # (tokens,)
    if bool((norms == 0).any()):
        return f"are all zero in row {int((norms == 0).nonzero()[0])}"
    if float(norms.max()) > MAX_NORM:
        return f"have a norm of {float(norms.max()):.3g}, at most {MAX_NORM:.3g} is let through"
    return None
