"""Words that images speak for: of each feature the words whose images it tells from the rest.

Looked at are the images that are not held out. A word's score on a feature is the lower bound of
its AUC (one standard error) and a little for the text tower's agreement, which decides between
words that images cannot tell apart ("racket" and "tennis court").
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.atlas import concept_codes
from sparse_encoder.features.auc import auc_of_ranks, lower_bound, mid_ranks
from sparse_encoder.features.columns import ImageColumns
from sparse_encoder.features.running_topk import RunningTopK
from sparse_encoder.features.state import Arrays, BuildState
from sparse_encoder.features.text_words import lifts

FEATURE_BLOCK = 256
WORD_BLOCK = 1024  # with 16,384 images 67 MB of who has which word
ERRORS = 1.0  # standard errors that a name's AUC is marked down by
# Largest share of the text tower in a score. Of 0, 0.05 and 0.2 the share of verified names on
# held-out images hardly differs (see docs); more than that lets words through that no image shows.
TEXT_SHARE = 0.05
LOUD = 3.0  # deviations of lift above the mean word at which the share is three quarters given


def evidence_words(
    columns: ImageColumns,
    places: Mapping[str, Sequence[int]],
    spoken: Mapping[str, str],
    encode_texts: Callable[[list[str]], Tensor],
    lift_mean: Tensor,
    lift_deviation: Tensor,
    k: int,
    state: BuildState,
    told: Callable[[int], None] = lambda _: None,
) -> Arrays:
    """index: (features, k) into the words of `places` in order, best first, -1 where there is none;
    score, bound (lower bound of the AUC alone), activation (text activation), z: the same shape.

    places: lemma -> images of `columns` it is said of. spoken: lemma -> the word the text tower
    reads. Holds WORD_BLOCK x images, images x FEATURE_BLOCK, WORD_BLOCK x features.
    """
    words = list(places)
    n_features = len(columns.offset) - 1
    out = _empty(n_features, k)
    for start in range(0, len(words), WORD_BLOCK):
        told(start)
        block = words[start : start + WORD_BLOCK]
        found = state.once(
            f"evidence-{start}",
            lambda block=block: _block(  # type: ignore[misc]
                columns, places, block, spoken, encode_texts, lift_mean, lift_deviation, k
            ),
        )
        out = _merged(out, found, start, k)
    told(len(words))
    return out


def _block(
    columns: ImageColumns,
    places: Mapping[str, Sequence[int]],
    block: Sequence[str],
    spoken: Mapping[str, str],
    encode_texts: Callable[[list[str]], Tensor],
    lift_mean: Tensor,
    lift_deviation: Tensor,
    k: int,
) -> Arrays:
    codes = concept_codes([spoken[lemma] for lemma in block], encode_texts).float().cpu()
    lift = lifts(codes)
    has = torch.zeros(len(block), columns.n_images)
    for row, lemma in enumerate(block):
        has[row, torch.tensor(places[lemma])] = 1
    n_positive = has.sum(1, keepdim=True)
    n_features = codes.shape[1]
    top = RunningTopK(n_features, k)
    bound_of, z_of = torch.zeros(n_features, k), torch.zeros(n_features, k)
    for low in range(0, n_features, FEATURE_BLOCK):
        rows = slice(low, min(low + FEATURE_BLOCK, n_features))
        auc = auc_of_ranks(mid_ranks(columns.dense(rows.start, rows.stop)), has)
        bound = lower_bound(auc, n_positive, ERRORS)  # (words, block)
        z = (lift[:, rows] - lift_mean[rows]) / lift_deviation[rows].clamp(min=1e-6)
        score = bound + TEXT_SHARE * torch.tanh(z / LOUD)
        score = score.masked_fill(auc.isnan(), -torch.inf).T  # (block, words)
        top.add(score, torch.arange(len(block)), rows)
        chosen = top.index[rows].clamp(min=0)
        bound_of[rows] = bound.T.gather(1, chosen)
        z_of[rows] = z.T.gather(1, chosen)
    activation = codes.T.gather(1, top.index.clamp(min=0))
    return {
        "index": top.index.numpy(),
        "score": top.value.numpy(),
        "bound": bound_of.numpy(),
        "z": z_of.numpy(),
        "activation": activation.numpy(),
    }


def _empty(n_features: int, k: int) -> Arrays:
    shape = (n_features, k)
    zeros = {name: np.zeros(shape, np.float32) for name in ("bound", "z", "activation")}
    return {
        "index": np.full(shape, -1, np.int64),
        "score": np.full(shape, -np.inf, np.float32),
        **zeros,
    }


def _merged(one: Arrays, other: Arrays, start: int, k: int) -> Arrays:
    """The k best of both; `other` counts its words from `start`."""
    index = np.where(other["index"] >= 0, other["index"] + start, -1)
    both = {"index": np.concatenate([one["index"], index], 1)}
    for name in ("score", "bound", "z", "activation"):
        both[name] = np.concatenate([one[name], other[name]], 1)
    order = np.argsort(-both["score"], axis=1, kind="stable")[:, :k]
    return {name: np.take_along_axis(column, order, 1) for name, column in both.items()}
