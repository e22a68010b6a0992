"""A photograph's code as a few weighted words: SpLiCE (arXiv 2402.10376) on sparse codes.

The unit code is fitted by a non-negative sum of the unit codes of words, with an L1 cost. Candidates
are the names of the strongest features and their runners-up, which keeps the vocabulary out of memory;
nothing is centred, since codes are non-negative and share no direction that both kinds lack.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas, concept_codes
from sparse_encoder.baselines.splice import nonnegative_lasso
from sparse_encoder.codes import Codes
from sparse_encoder.contrastive import unit
from vlm.explain.strongest import global_code, strongest_features

N_NAMED = 64  # strongest features whose names are candidates: a few hundred words at most
# Cost of a weight, as a share of the best word's cosine: 4 to 22 words in the four example
# photographs, where a share of 0.15 leaves up to 33 and 0.5 gives up 3 to 6 points of cosine.
L1_SHARE = 0.3


@dataclass(frozen=True)
class WeightedWord:
    word: str
    weight: float  # in the unit code, > 0


@dataclass(frozen=True)
class Decomposition:
    """The words that add up to a photograph's code, as far as words do."""

    words: tuple[WeightedWord, ...]  # the heaviest, heaviest first
    n_words: int  # with a weight above 0, listed or not
    n_candidates: int
    cosine: float  # of the sum of all weighted words with the code, [0, 1], higher is closer


@torch.inference_mode()
def decompose(
    codes: Codes, atlas: FeatureAtlas, encode_text: Callable[[list[str]], Tensor], top: int
) -> Decomposition:
    """The `top` heaviest words of the one photograph of `codes`.

    encode_text: texts to codes (n, features). Without an active named feature there are no words.
    """
    named = strongest_features(codes, atlas, N_NAMED)
    words = list(
        dict.fromkeys(word for f in named for word in (f.name, *atlas.runner_up[f.feature]) if word)
    )
    if not words:
        return Decomposition((), 0, 0, 0.0)
    code = unit(global_code(codes)[None])  # (1, features)
    word_code = unit(concept_codes(words, encode_text).float())  # (words, features)
    # Only what lies in the words' span can be fitted, so the problem is solved there: the same
    # weights, and matrices of words x words in place of features x features.
    basis = torch.linalg.qr(word_code.T).Q  # (features, words)
    code_there, word_there = code @ basis, word_code @ basis
    l1 = L1_SHARE * float((code_there @ word_there.T).max())
    if l1 <= 0:
        return Decomposition((), 0, len(words), 0.0)
    weight = nonnegative_lasso(word_there, code_there, l1)[0]  # (words,)
    order = weight.argsort(descending=True, stable=True)[:top].tolist()
    return Decomposition(
        words=tuple(WeightedWord(words[i], float(weight[i])) for i in order if weight[i] > 0),
        n_words=int((weight > 0).sum()),
        n_candidates=len(words),
        cosine=float(unit((weight @ word_code)[None]) @ code[0]),
    )
