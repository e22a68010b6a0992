"""The bytes and the text of single tokens, as log-probabilities name them."""

import re
from functools import cache
from typing import Any


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """What a token adds to the text; a token may be a part of a character.

    Of a byte-level vocabulary, such as SmolLM2's, or of SentencePiece's, which writes a space as
    U+2581 and a lone byte as <0x0A>; a special token is its own name.
    """
    word = tokenizer.convert_ids_to_tokens(token)
    if word is None:  # the vocabulary ends before the logits do
        return b""
    if token in tokenizer.all_special_ids:
        return str(word).encode()
    if lone := re.fullmatch(r"<0x([0-9A-F]{2})>", word):
        return bytes([int(lone[1], 16)])
    word = word.replace("\u2581", " ")
    table = _bytes_of_characters()
    return b"".join(bytes([table[c]]) if c in table else c.encode() for c in word)


@cache
def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's way of writing bytes: printable Latin-1 as itself, the rest from U+0100 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in plain]
    return {
        **{chr(byte): byte for byte in plain},
        **{chr(256 + i): byte for i, byte in enumerate(others)},
    }
