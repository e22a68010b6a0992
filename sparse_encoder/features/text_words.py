"""What the text tower says of words: the best of each feature by lift, and the mean word.

Plain top words favour words with large codes: "space heater" came first on features of cats. A
word's lift on a feature is its text activation over the length of the word's whole code: what part
of the word is this feature. Within a feature words are ranked by it; the deviation from the mean
word (z) says whether the best one stands out.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.atlas import concept_codes
from sparse_encoder.features.running_topk import RunningTopK
from sparse_encoder.features.state import Arrays, BuildState

WORD_BLOCK = 1024
SAVE_EVERY = 8  # blocks; a stopped run goes on from the last save

EncodeTexts = Callable[[list[str]], Tensor]
Told = Callable[[int], None]


def lifts(codes: Tensor) -> Tensor:
    """Each word's code over its length, (words, features), [0, 1]; 0 for a code of zeros."""
    length: Tensor = codes.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return codes / length


def rank_words(
    words: Sequence[str],
    encode_texts: EncodeTexts,
    n_features: int,
    k: int,
    state: BuildState,
    told: Told = lambda _: None,
) -> Arrays:
    """index, lift: (features, k), the words with the largest lift, -1 and 0 where none has any;
    activation: the text activation of these; mean, deviation: (features,) of the lift over all words.

    Holds WORD_BLOCK x features and features x k. told is called with the number of words done.
    """
    if not words:
        raise ValueError("there is no word to rank")
    kept = state.get("words")
    top = RunningTopK(n_features, k)
    activation = torch.zeros(n_features, k)
    total, squares = (torch.zeros(n_features, dtype=torch.float64) for _ in range(2))
    done = 0
    if kept is not None:
        top.value, top.index = torch.from_numpy(kept["value"]), torch.from_numpy(kept["index"])
        activation = torch.from_numpy(kept["activation"])
        total, squares = torch.from_numpy(kept["total"]), torch.from_numpy(kept["squares"])
        done = int(kept["done"])
    while done < len(words):
        told(done)
        block = words[done : done + WORD_BLOCK]
        codes = concept_codes(block, encode_texts).float().cpu()
        lift = lifts(codes)
        before_index, before = top.index.clone(), activation
        top.add(lift.T.masked_fill(lift.T <= 0, -torch.inf), torch.arange(done, done + len(block)))
        activation = _follow(top.index, before_index, before, codes, done)
        total += lift.double().sum(0)
        squares += lift.double().square().sum(0)
        done += len(block)
        if done >= len(words) or (done // WORD_BLOCK) % SAVE_EVERY == 0:
            state.put(
                "words",
                {
                    "value": top.value.numpy(),
                    "index": top.index.numpy(),
                    "activation": activation.numpy(),
                    "total": total.numpy(),
                    "squares": squares.numpy(),
                    "done": np.array(done),
                },
            )
    told(done)
    mean = total / len(words)
    deviation = (squares / len(words) - mean.square()).clamp(min=0).sqrt()
    return {
        "index": top.index.numpy(),
        "lift": torch.where(top.index >= 0, top.value, 0.0).numpy(),
        "activation": activation.numpy(),
        "mean": mean.float().numpy(),
        "deviation": deviation.float().numpy(),
    }


def _follow(index: Tensor, old_index: Tensor, old: Tensor, codes: Tensor, first: int) -> Tensor:
    """Activations in the places of `index`: from the block's codes, or from where they stood."""
    fresh = index >= first
    row = (index - first).clamp(min=0)
    mine = codes.T.gather(1, row)
    where = (index[:, :, None] == old_index[:, None, :]).float().argmax(2)  # (features, k)
    kept = old.gather(1, where)
    return torch.where(fresh, mine, torch.where(index >= 0, kept, 0.0))
