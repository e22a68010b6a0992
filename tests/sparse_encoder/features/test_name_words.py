"""Candidates: cleaned, merged by lemma, found in what is said of an image."""

from pathlib import Path

import pytest

from sparse_encoder.errors import SparsightError
from sparse_encoder.features.words import (
    WordForms,
    clean_words,
    images_with,
    normalise_word,
    read_word_list,
    tokens_of,
)

FORMS = WordForms(
    lambda word: word.removesuffix("s"), lambda w: frozenset({"animal"} if w == "dog" else ())
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog's bone, well-known!", ["a", "dog", "bone", "well", "known"]),
        ("Ein Hündchen", ["ein", "hündchen"]),
        ("Hu\u0308ndchen", ["hündchen"]),
        ("ｄｏｇ", ["dog"]),
        ("собака и кошка", ["собака", "и", "кошка"]),
        ("犬", ["犬"]),
        ("", []),
        ("?!", []),
    ],
)
def test_words_of_any_script_become_plain_tokens(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens
    assert normalise_word(text) == " ".join(tokens)


def test_duplicates_count_once_and_overlong_words_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert clean_words(["Dog", "dog ", "x" * 10_000, "", "cat"]) == ["dog", "cat"]
    assert "1 words of more than 60 characters" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no word among its 0 lines"),
        (b"\n \n", "no word among its 2 lines"),
        (b"?\n" + b"y" * 10_000, "no word among its 2 lines"),
        (b"\xff\xfe\x00", "cannot read the word list"),
    ],
)
def test_a_list_without_a_word_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(SparsightError, match=message) as refused:
        read_word_list(path)
    assert refused.value.param == "words"


@pytest.mark.parametrize(
    ("words", "merged"),
    [
        (["dogs", "dog"], {"dog": "dog"}),
        (["dog", "dogs"], {"dog": "dog"}),
        (["dogs"], {"dog": "dogs"}),
        (["hot dogs", "hot dog", "dog"], {"hot dog": "hot dog", "dog": "dog"}),
    ],
)
def test_words_of_one_lemma_are_one_word(words: list[str], merged: dict[str, str]) -> None:
    assert FORMS.merged(words) == merged


def test_what_is_said_holds_phrases_base_forms_and_broader_words() -> None:
    said = FORMS.said_in(["Two brown dogs.", "a cat"])
    assert {"brown dog", "dog", "animal", "cat", "two"} <= said
    assert "dogs" not in said
    assert "dog a" not in said  # texts are apart


def test_only_words_said_of_enough_images_are_weighed() -> None:
    said = [{"dog", "cat"}, {"dog"}, {"dog", "bird"}]
    assert images_with(["dog", "cat", "fish"], said, 2) == {"dog": [0, 1, 2]}
