"""The photograph's code as weighted words of a list."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparse_encoder import word_codes as word_codes_module
from sparse_encoder.atlas import concept_codes
from sparse_encoder.baselines.splice import nonnegative_lasso
from sparse_encoder.codes import Codes
from vlm.explain import words as words_module
from vlm.explain.explain import finish
from vlm.explain.words import L1_SHARE, Decomposition, decompose

Encode = Callable[[list[str]], Tensor]
LIST = ["dog", "cat", "man", "woman", "fire", "truck", "unknown"]


def codes_of(entries: dict[int, float]) -> Codes:
    code = torch.zeros(1, 12)
    for feature, activation in entries.items():
        code[0, feature] = activation
    return Codes.from_dense(code)


def said(codes: Codes, encode: Encode, top: int = 5, words: list[str] = LIST) -> Decomposition:
    return finish(decompose(codes, words, encode, "f" * 64, top))


def test_the_code_of_a_word_is_that_word(fake_encode_text: Encode) -> None:
    found = said(Codes.from_dense(concept_codes(["dog"], fake_encode_text)), fake_encode_text)
    assert [w.word for w in found.words] == ["dog"]
    assert found.cosine == pytest.approx(1, abs=1e-4)
    assert found.words[0].weight == pytest.approx(1 - L1_SHARE, abs=1e-2)  # what the cost takes off


def test_two_things_are_two_words_the_stronger_first(fake_encode_text: Encode) -> None:
    both = codes_of({0: 2.0, 1: 3.0, 3: 0.1})
    found = said(both, fake_encode_text)
    assert [w.word for w in found.words] == ["cat", "dog"] and found.n_words == 2
    assert found.n_candidates == len(LIST)
    assert [w.word for w in said(both, fake_encode_text, top=1).words] == ["cat"]


@pytest.mark.parametrize("entries", [{}, {11: 1.0}])
def test_a_code_that_no_word_is_near_has_no_words(
    fake_encode_text: Encode, entries: dict[int, float]
) -> None:
    found = said(codes_of(entries), fake_encode_text)
    assert (found.words, found.n_words, found.cosine) == ((), 0, 0.0)
    empty = said(codes_of({0: 1.0}), fake_encode_text, words=[])
    assert (empty.words, empty.n_candidates) == ((), 0)


@pytest.mark.parametrize("seed", range(6))
def test_a_long_list_in_blocks_gives_the_weights_of_the_whole_problem_at_once(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(word_codes_module, "BLOCK", 16)
    monkeypatch.setattr(words_module, "AT_ONCE", 3)
    random = torch.Generator().manual_seed(seed)
    table = (torch.randn(100, 40, generator=random) - 0.8).relu()
    table[7] = 0  # a word without a code

    def encode(texts: list[str]) -> Tensor:
        return table[[int("".join(filter(str.isdigit, text))) for text in texts]]

    codes = Codes.from_dense((torch.randn(1, 40, generator=random) - 0.3).relu())
    found = said(codes, encode, top=100, words=[str(i) for i in range(100)])
    code = normalize(codes.dense(), dim=1)
    word_code = normalize(table, dim=1)
    l1 = L1_SHARE * float((code @ word_code.T).max())
    plain = nonnegative_lasso(word_code, code, l1, tolerance=1e-5, most_steps=20_000)[0]
    weight = torch.zeros(100)
    for w in found.words:
        weight[int(w.word)] = w.weight

    def cost(w: Tensor) -> float:
        return float(0.5 * (code[0] - w @ word_code).square().sum() + l1 * w.sum())

    # Forty features and a hundred words: several weights may be best, their cost is one.
    assert cost(weight) == pytest.approx(cost(plain), abs=2e-4)
    assert found.n_words == len(found.words) > 3
    fitted = normalize(weight[None] @ word_code, dim=1)
    assert found.cosine == pytest.approx(float(fitted @ code.T), abs=1e-5)
