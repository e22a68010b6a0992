"""Features tried out: what a word's log-probability loses when each is taken out of the code.

A feature is confirmed where taking it out costs the word more than taking out any of a few random
features of like magnitude in the same photograph; else it is refuted. Magnitude is what enters the
projector: the activation of the global code plus the mean over the cells. Ablating, here and in a
steering edit, sets a feature to 0 in the global code and in every cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from vlm.explain.captioner import Captioner
from vlm.explain.word_place import WordPlace, find_word

N_CONTROLS = 8  # random features beside each: by chance alone one of nine would be confirmed
N_NEAREST = 16  # candidates of like magnitude, among which chance decides


@dataclass(frozen=True)
class Trial:
    """What ablating some features did."""

    loss: float  # of the word's log-probability, nats; above 0 where the features helped the word
    caption: str  # greedy, without them
    says_word: bool  # whether that caption still has the word


def ablated(codes: Codes, features: Sequence[int]) -> Codes:
    """The codes without these features, in the global codes and in all cells."""
    keep = ~torch.isin(codes.index, torch.tensor(list(features), dtype=torch.int64))
    row = torch.repeat_interleave(torch.arange(codes.n_rows), codes.offset.diff())
    offset = torch.zeros_like(codes.offset)
    offset[1:] = torch.bincount(row[keep], minlength=codes.n_rows).cumsum(0)
    return replace(codes, index=codes.index[keep], value=codes.value[keep], offset=offset)


def magnitudes(codes: Codes) -> Tensor:
    """Activation in the global code plus the mean over cells, of one photograph, (features,)."""
    row = torch.repeat_interleave(torch.arange(codes.n_rows), codes.offset.diff())
    weight = torch.where(row == 0, 1.0, 1.0 / max(codes.n_cells, 1))
    return torch.zeros(codes.n_features).index_add(0, codes.index, codes.value * weight)


def matched_active(
    magnitude: Tensor,
    feature: int,
    taken: Sequence[int],
    n: int,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """`n` random features whose magnitude is closest in ratio to that of `feature`; fewer if few.

    magnitude: (features,). Only active features come into question, and none of `taken`.
    """
    size = magnitude.numpy()
    barred = {feature, *taken}
    free = [j for j in np.flatnonzero(size > 0).tolist() if j not in barred]
    free.sort(key=lambda j: (abs(float(np.log(size[j] / size[feature]))), j))
    near = free[: max(N_NEAREST, n)]
    return tuple(int(j) for j in rng.choice(near, size=min(n, len(near)), replace=False))


@torch.inference_mode()
def losses(
    codes: Codes, captioner: Captioner, place: WordPlace, sets: Sequence[Sequence[int]]
) -> list[float]:
    """What the word's log-probability loses, in nats, without each set of features."""
    if not sets:
        return []
    changed = Codes.cat([codes, *(ablated(codes, features) for features in sets)])
    found = captioner.log_probs(changed, place.before, place.tokens).tolist()
    return [found[0] - after for after in found[1:]]


def try_out(
    codes: Codes,
    captioner: Captioner,
    place: WordPlace,
    word: str,
    sets: Sequence[Sequence[int]],
) -> list[Trial]:
    """Each set of features taken out on its own: the word's loss, and the caption without them."""
    if not sets:
        return []
    changed = Codes.cat([ablated(codes, features) for features in sets])
    texts = [captioner.text(tokens) for tokens in captioner.captions(changed)]
    return [
        Trial(loss, text, find_word(word, text) is not None)
        for loss, text in zip(losses(codes, captioner, place, sets), texts, strict=True)
    ]
