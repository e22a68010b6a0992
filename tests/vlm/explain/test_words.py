"""The photograph's code as weighted words."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparse_encoder.atlas import FeatureAtlas, concept_codes
from sparse_encoder.baselines.splice import nonnegative_lasso
from sparse_encoder.codes import Codes
from vlm.explain.words import L1_SHARE, decompose

Encode = Callable[[list[str]], Tensor]


def codes_of(entries: dict[int, float]) -> Codes:
    code = torch.zeros(1, 12)
    for feature, activation in entries.items():
        code[0, feature] = activation
    return Codes.from_dense(code)


def test_the_code_of_a_word_is_that_word(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    dog = concept_codes(["dog"], fake_encode_text)
    found = decompose(Codes.from_dense(dog), tiny_atlas, fake_encode_text, 5)
    assert [w.word for w in found.words] == ["dog"]
    assert found.cosine == pytest.approx(1, abs=1e-4)
    assert found.words[0].weight == pytest.approx(1 - L1_SHARE, abs=1e-2)  # what the cost takes off


def test_two_things_are_two_words_the_stronger_first(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    both = codes_of({0: 2.0, 1: 3.0, 3: 0.1})
    found = decompose(both, tiny_atlas, fake_encode_text, 5)
    assert [w.word for w in found.words] == ["cat", "dog"] and found.n_words == 2
    assert found.n_candidates == 3  # man is a candidate too
    assert [w.word for w in decompose(both, tiny_atlas, fake_encode_text, 1).words] == ["cat"]


def test_solving_in_the_words_span_gives_the_weights_of_the_whole_space(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    codes = codes_of({0: 2.0, 1: 3.0, 2: 1.0, 8: 2.0, 10: 1.0})
    words = ["cat", "dog"]
    atlas = replace(tiny_atlas, names=["dog", "cat", *[""] * 10])
    word_code = normalize(concept_codes(words, fake_encode_text), dim=1)
    code = normalize(codes.dense(), dim=1)
    l1 = L1_SHARE * float((code @ word_code.T).max())
    plain = nonnegative_lasso(word_code, code, l1)[0]
    found = {w.word: w.weight for w in decompose(codes, atlas, fake_encode_text, 5).words}
    assert found == pytest.approx(dict(zip(words, plain.tolist(), strict=True)), abs=2e-4)


@pytest.mark.parametrize("entries", [{}, {9: 1.0}])
def test_a_code_without_named_features_has_no_words(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode, entries: dict[int, float]
) -> None:
    found = decompose(codes_of(entries), tiny_atlas, fake_encode_text, 5)
    assert (found.words, found.n_candidates, found.cosine) == ((), 0, 0.0)


def test_names_that_the_text_tower_does_not_put_near_the_code_weigh_nothing(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    found = decompose(codes_of({6: 1.0}), tiny_atlas, fake_encode_text, 5)  # "indoors" is unknown
    assert (found.words, found.n_words, found.n_candidates) == ((), 0, 1)
