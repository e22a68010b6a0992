"""A photograph's code as a few weighted words: SpLiCE (arXiv 2402.10376) on sparse codes.

The unit code x is fitted by a non-negative sum of the unit codes c of a whole word list, with an L1
cost. Codes are non-negative, so a sum of words only takes away from what is left to explain: where
x . c does not exceed the cost, no solution gives that word a weight. The other words are solved for
exactly. Nothing is centred, since codes share no direction that both kinds lack.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.baselines.splice import nonnegative_lasso
from sparse_encoder.codes import Codes
from sparse_encoder.contrastive import unit
from sparse_encoder.word_codes import Told, WordCodes, word_codes
from vlm.explain.strongest import global_code

# Cost of a weight, as a share of the best word's cosine.
L1_SHARE = 0.3
AT_ONCE = 64  # words that join those that are solved for
TOLERANCE = 1e-3  # of the optimality conditions, as `nonnegative_lasso` has it


@dataclass(frozen=True)
class WeightedWord:
    word: str
    weight: float  # in the unit code, > 0


@dataclass(frozen=True)
class Decomposition:
    """The words that add up to a photograph's code, as far as words do."""

    words: tuple[WeightedWord, ...]  # the heaviest, heaviest first
    n_words: int  # with a weight above 0, listed or not
    n_candidates: int  # words of the list
    cosine: float  # of the sum of all weighted words with the code, [0, 1], higher is closer


def decompose(
    codes: Codes,
    words: Sequence[str],
    encode_texts: Callable[[list[str]], Tensor],
    fingerprint: str,
    top: int,
    told: Told = lambda *_: None,
) -> Generator[str, None, Decomposition]:
    """In steps, the `top` heaviest words of the one photograph of `codes`.

    encode_texts: texts to codes (n, features) of the model of that fingerprint. The first time with a
    list takes as long as the text tower needs to read it (see word_codes.py).
    """
    listed = yield from word_codes(words, encode_texts, codes.n_features, fingerprint, told)
    return solve(codes, listed, top)


@torch.inference_mode()
def solve(codes: Codes, listed: WordCodes, top: int) -> Decomposition:
    """`decompose` over words whose codes are there. Holds the codes of the words that can count."""
    code = unit(global_code(codes)[None])[0]  # (features,)
    number, word_code, cosine = _near(code, listed)
    if not len(number):
        return Decomposition((), 0, len(listed.words), 0.0)
    l1 = L1_SHARE * float(cosine.max())
    weight = _weights(code, word_code, cosine, l1)  # (near words,)
    order = weight.argsort(descending=True, stable=True)[:top].tolist()
    fitted = _dense_sum(word_code, weight)
    return Decomposition(
        words=tuple(
            WeightedWord(listed.words[number[i]], float(weight[i])) for i in order if weight[i] > 0
        ),
        n_words=int((weight > 0).sum()),
        n_candidates=len(listed.words),
        cosine=float(unit(fitted[None])[0] @ code),
    )


def _near(code: Tensor, listed: WordCodes) -> tuple[list[int], Codes, Tensor]:
    """Numbers, codes and cosines of the words that can have a weight."""
    numbers: list[int] = []
    rows: list[Codes] = []
    cosines: list[Tensor] = []
    best = 0.0
    for first, block in listed.blocks():
        cosine = _products(block, code)
        best = max(best, float(cosine.max()))
        # The cost only rises from here on, so that what is left out now stays out.
        for i in (cosine > L1_SHARE * best).nonzero()[:, 0].tolist():
            numbers.append(first + i)
            rows.append(block.image(i))
            cosines.append(cosine[i])
    if best <= 0:
        return [], Codes.from_dense(torch.zeros(0, len(code))), torch.zeros(0)
    kept = [i for i, cosine in enumerate(cosines) if cosine > L1_SHARE * best]
    return (
        [numbers[i] for i in kept],
        Codes.cat([rows[i] for i in kept]),
        torch.stack([cosines[i] for i in kept]),
    )


def _weights(code: Tensor, word_code: Codes, cosine: Tensor, l1: float) -> Tensor:
    """The weights of all near words, (words,): solved for a few that grow till no other one is due."""
    chosen = cosine.argsort(descending=True, stable=True)[:AT_ONCE]
    while True:
        weight = torch.zeros(len(cosine))
        weight[chosen] = _solved(code, word_code, chosen, l1)
        # A word is due where what is left of the code still exceeds the cost on it.
        due = _products(word_code, code - _dense_sum(word_code, weight)) - l1
        due[chosen] = 0
        if float(due.max()) <= TOLERANCE:
            return weight
        more = due.argsort(descending=True, stable=True)[:AT_ONCE]
        chosen = torch.cat([chosen, more[due[more] > TOLERANCE]])


def _solved(code: Tensor, word_code: Codes, chosen: Tensor, l1: float) -> Tensor:
    rows = Codes.cat([word_code.image(i) for i in chosen.tolist()]).dense()  # (chosen, features)
    # Only what lies in the words' span can be fitted, so the problem is solved there: the same
    # weights, and matrices of words x words in place of features x features.
    basis = torch.linalg.qr(rows.T).Q  # (features, chosen)
    return nonnegative_lasso(rows @ basis, code[None] @ basis, l1, tolerance=TOLERANCE)[0]


def _products(rows: Codes, vector: Tensor) -> Tensor:
    """Of each sparse row with (features,): (rows,)."""
    row = torch.repeat_interleave(torch.arange(rows.n_rows), rows.offset.diff())
    return torch.zeros(rows.n_rows).index_add(0, row, rows.value * vector[rows.index])


def _dense_sum(rows: Codes, weight: Tensor) -> Tensor:
    """The rows' sum by weight, (features,)."""
    row = torch.repeat_interleave(torch.arange(rows.n_rows), rows.offset.diff())
    return torch.zeros(rows.n_features).index_add(0, rows.index, rows.value * weight[row])
