"""Where a caption says a word, or comes closest to it."""

from typing import Any

import pytest
import torch

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from vlm.explain.word_place import check_word, find_word, likeliest_place, said_place
from vlm.language_model import tiny_tokenizer

CAPTION = "Two dogs run. A dog, a hot-dog and a fire truck"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("dog", "dogs"),  # the plural comes first
        ("dogs", "dogs"),
        ("DOG", "dogs"),
        ("two", "Two"),
        ("hot-dog", "hot-dog"),
        ("fire truck", "fire truck"),
        ("Fire  trucks", None),  # a plural is not taken for its singular
        ("do", None),
        ("hot", None),  # a word with a hyphen is one word
        ("truck fire", None),
    ],
)
def test_whole_words_and_their_plurals_are_found_in_any_case(word: str, found: str | None) -> None:
    span = find_word(word, CAPTION)
    assert (None if span is None else CAPTION[slice(*span)]) == found


@pytest.mark.parametrize("word", ["dog", "truck", "Two", "fire truck"])
def test_the_place_cuts_the_caption_before_the_word(tokenizer: Any, word: str) -> None:
    caption = tokens_of(tokenizer, CAPTION)
    place = said_place(word, caption, tokenizer)
    assert place is not None and place.said is not None
    assert tokenizer.decode(list(place.tokens)) == place.said  # a token a byte: no space in it
    assert [*place.before, *place.tokens] == caption[: len(place.before) + len(place.tokens)]


def test_a_word_that_is_not_said_has_no_such_place(tokenizer: Any) -> None:
    assert said_place("cat", tokens_of(tokenizer, CAPTION), tokenizer) is None
    assert said_place("cat", [], tokenizer) is None


def test_it_would_be_said_where_its_first_token_is_likeliest_before_a_word(
    tokenizer: Any, tiny_atlas: FeatureAtlas
) -> None:
    caption = tokens_of(tokenizer, "A man and a ball")
    (space,) = tokens_of(tokenizer, " ")
    following = torch.full((len(caption) + 1, 264), -9.0)
    following[3, space] = -0.1  # within "man": no place for a word
    following[9, space] = -1.0
    place = likeliest_place("dog", caption, following, tokenizer, tiny_atlas)
    assert tokenizer.decode(list(place.before)) == "A man and"
    assert tokenizer.decode(list(place.tokens)) == " dog" and place.said is None


def test_a_caption_of_one_word_is_gone_on_from_its_end(
    tokenizer: Any, tiny_atlas: FeatureAtlas
) -> None:
    for text in ("Dunes", ""):
        caption = tokens_of(tokenizer, text)
        following = torch.zeros(len(caption) + 1, 264)
        place = likeliest_place("dog", caption, following, tokenizer, tiny_atlas)
        assert list(place.before) == caption


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("xqzzt", "no word that the model knows"),
        ("dog cat", "more than one word"),
        ("dog!", "more than one word"),
    ],
)
def test_what_is_neither_said_nor_one_known_word_is_refused(
    tokenizer: Any, tiny_atlas: FeatureAtlas, word: str, words: str
) -> None:
    following = torch.zeros(3, 264)
    with pytest.raises(SparsightError, match=words) as caught:
        likeliest_place(word, tokens_of(tokenizer, "ab"), following, tokenizer, tiny_atlas)
    assert (caught.value.param, caught.value.code) == ("word", "word_not_said")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("", "expected a word"),
        ("  \n", "expected a word"),
        ("!?", "expected a word"),
        ("a" * 51, "51 characters, at most 50"),
        ("<|im_end|>", "reserved"),
    ],
)
def test_what_is_no_word_is_refused(tokenizer: Any, word: str, words: str) -> None:
    with pytest.raises(SparsightError, match=words) as caught:
        check_word(word, tokenizer)
    assert caught.value.param == "word"
