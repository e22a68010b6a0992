"""The features that stand for a concept: few that together are active on nearly all that shows it.

A text code alone does not tell which features the photographs of a concept have. Of sparsight-mini's
four strongest by text and scale, none is active to speak of on 38 % of the photographs whose captions
say the concept, and no captioner can miss what was not there. So where enough images say a concept,
its features are chosen on them, greedily: each next one adds most to the mean root of the
summed activation over these images, less the same over the others. The root makes the second
feature on an image count less than the first, so that images without any are covered first.
Only features that the text code has too are looked at: what merely stands beside the thing, grass
beside a dog, is not the thing.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sparse_encoder.atlas import concept_codes
from sparse_encoder.features.columns import ImageColumns

WORD_BLOCK, FEATURE_BLOCK = 256, 256
N_FEATURES = 16  # a concept
N_CANDIDATES = 64  # a concept, by the difference of means
LOUDEST = 2.0  # activation, p99, above which more does not count


def choose_concept_features(
    columns: ImageColumns,
    places: Mapping[str, Sequence[int]],
    spoken: Mapping[str, str],
    encode_texts: Callable[[list[str]], Tensor],
    p99: Tensor,
    allowed: Tensor,
    told: Callable[[int], None] = lambda _: None,
) -> dict[str, tuple[int, ...]]:
    """Word -> its features, best first, at most N_FEATURES; words without any are left out.

    places: lemma -> images of `columns` it is said of. spoken: lemma -> the word itself. p99:
    (features,). allowed: (features,) bool, those that may stand for a concept. Holds WORD_BLOCK x
    images, images x FEATURE_BLOCK, WORD_BLOCK x features.
    """
    lemmas, chosen = list(places), {}
    scale = p99.clamp(min=1e-6)
    for start in range(0, len(lemmas), WORD_BLOCK):
        told(start)
        block = lemmas[start : start + WORD_BLOCK]
        text = concept_codes([spoken[lemma] for lemma in block], encode_texts).float().cpu()
        usable = (text > 0) & allowed
        has = torch.zeros(len(block), columns.n_images)
        for row, lemma in enumerate(block):
            has[row, torch.tensor(places[lemma])] = 1
        gain = _difference_of_means(columns, has, scale).masked_fill(~usable, -torch.inf)
        for row, lemma in enumerate(block):
            best, order = gain[row].topk(min(N_CANDIDATES, len(allowed)))
            candidates = order[best > 0]
            if len(candidates):
                chosen[spoken[lemma]] = _greedy(columns, has[row] > 0, candidates, scale)
    told(len(lemmas))
    return chosen


def _difference_of_means(columns: ImageColumns, has: Tensor, scale: Tensor) -> Tensor:
    """(words, features): mean activation in p99, at most 1, on a word's images less on the others."""
    n_features = len(scale)
    out = torch.zeros(len(has), n_features)
    n_with = has.sum(1, keepdim=True)
    n_without = (columns.n_images - n_with).clamp(min=1)
    for low in range(0, n_features, FEATURE_BLOCK):
        high = min(low + FEATURE_BLOCK, n_features)
        dense = (columns.dense(low, high) / scale[low:high]).clamp(max=1)
        with_it = has @ dense
        without = dense.sum(0) - with_it
        out[:, low:high] = with_it / n_with.clamp(min=1) - without / n_without
    return out


def _greedy(
    columns: ImageColumns, shows: Tensor, candidates: Tensor, scale: Tensor
) -> tuple[int, ...]:
    dense = torch.cat([columns.dense(f, f + 1) for f in candidates.tolist()], 1)
    dense = (dense / scale[candidates]).clamp(max=LOUDEST)
    total = torch.zeros(columns.n_images, 1)
    picked: list[int] = []
    for _ in range(min(N_FEATURES, len(candidates))):
        root = (total + dense).sqrt()
        gain = root[shows].mean(0) - root[~shows].mean(0).nan_to_num()
        gain[picked] = -torch.inf
        picked.append(int(gain.argmax()))
        total = total + dense[:, picked[-1] :][:, :1]
    return tuple(candidates[picked].tolist())
