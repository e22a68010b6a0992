"""The chat's layout, which training and vLLM share."""

import pytest

from sparse_encoder.errors import SparsightError
from tests.tiny_model import photo
from vlm.language_model import tiny_tokenizer
from vlm.template import ImagePart, Message, TextPart, chat_images, chat_pieces


def _text(pieces: list[list[int]]) -> list[str]:
    return [tiny_tokenizer().decode(p) for p in pieces]


def test_the_image_comes_first_and_a_newline_parts_it_from_the_text() -> None:
    chat = [Message("user", (ImagePart(photo(0)), TextPart("What is it?")))]
    assert _text(chat_pieces(chat, tiny_tokenizer())) == [
        "<|im_start|>user\n",
        "\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
    ]


def test_there_is_no_system_line_unless_it_is_given() -> None:
    chat = [Message("system", (TextPart("Be brief."),)), Message("user", (TextPart("Hi"),))]
    (text,) = _text(chat_pieces(chat, tiny_tokenizer()))
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi")
    (bare,) = _text(chat_pieces(chat[1:], tiny_tokenizer()))
    assert bare.startswith("<|im_start|>user")


def test_images_of_several_turns_keep_their_order() -> None:
    one, two = photo(1), photo(2)
    chat = [
        Message("user", (ImagePart(one), TextPart("?"))),
        Message("assistant", (TextPart("A cat."),)),
        Message("user", (ImagePart(two),)),
    ]
    assert chat_images(chat) == [one, two]
    assert len(chat_pieces(chat, tiny_tokenizer())) == 3


@pytest.mark.parametrize("mark", ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "\ue000"])
def test_text_that_would_read_as_the_templates_marks_is_refused(mark: str) -> None:
    chat = [Message("user", (TextPart(f"Hi {mark} there"),))]
    with pytest.raises(SparsightError, match="reserved"):
        chat_pieces(chat, tiny_tokenizer())
