"""The place in a caption at which a word is, or would be, said.

A caption says a word where it has it, or its plural, as whole words in any case; the first such
place counts. Where it does not, the place is before that word of the caption (the first aside, which
a sentence opens with) at which the asked word's first token is likeliest: there the captioner came
closest to saying it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from vlm.template import check_text
from vlm.wordnet import wordnet

WORD = re.compile(r"\w+(?:['’-]\w+)*")
MAX_WORD_LENGTH = 50  # characters; longer than any word of the vocabulary


@dataclass(frozen=True)
class WordPlace:
    """Where a caption is cut, and what would go on from there."""

    said: str | None  # the word as the caption has it; None where it does not say it
    before: tuple[int, ...]  # tokens of the caption up to the word
    tokens: tuple[int, ...]  # of the word


def check_word(word: str, tokenizer: Any) -> None:
    """Refuses what is no word or phrase; `param` is ``word``."""
    if not WORD.findall(word):
        raise _refusal(f"word is {short(word)}, expected a word such as 'dog'")
    if len(word) > MAX_WORD_LENGTH:
        raise _refusal(
            f"word has {len(word)} characters, at most {MAX_WORD_LENGTH} are allowed; "
            "give one word of the caption"
        )
    try:
        check_text(word, tokenizer)
    except SparsightError as error:
        raise SparsightError(error.message, param="word", code=error.code) from None


def said_place(word: str, caption: Sequence[int], tokenizer: Any) -> WordPlace | None:
    """The first place where the caption says the word or phrase; None where it does not."""
    ends = [  # of the text, in characters, after each token
        len(tokenizer.decode(list(caption[: i + 1]), skip_special_tokens=True))
        for i in range(len(caption))
    ]
    text: str = tokenizer.decode(list(caption), skip_special_tokens=True)
    if (span := find_word(word, text)) is None:
        return None
    first = next(i for i, end in enumerate(ends) if end > span[0])
    last = next(i for i, end in enumerate(ends) if end >= span[1])
    return WordPlace(
        text[span[0] : span[1]], tuple(caption[:first]), tuple(caption[first : last + 1])
    )


def likeliest_place(
    word: str, caption: Sequence[int], next_log_probs: Tensor, tokenizer: Any, atlas: FeatureAtlas
) -> WordPlace:
    """Where the caption, which does not say the word, came closest to it.

    next_log_probs: (1 + tokens, vocabulary), what may follow each beginning of the caption. Raises
    SparsightError for anything but one word that the atlas knows: the likelihood of others says
    nothing about the photograph.
    """
    text = tokenizer.decode(list(caption), skip_special_tokens=True)
    known = word.lower() in atlas.vocabulary or word.lower() in atlas.known_names
    if WORD.fullmatch(word) is None or not known:
        kind = "no word that the model knows" if WORD.fullmatch(word) else "more than one word"
        raise SparsightError(
            f"the caption ({short(text)}) does not say {short(word)}, which is {kind}; ask for a "
            "word of the caption, or for one word of the vocabulary",
            param="word",
            code="word_not_said",
        )
    tokens = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    starts = [i for i in range(1, len(caption)) if tokenizer.decode([caption[i]])[:1] == " "]
    places = starts or [len(caption)]
    best = max(places, key=lambda i: float(next_log_probs[i, tokens[0]]))  # the first of equal ones
    return WordPlace(None, tuple(caption[:best]), tuple(tokens))


def find_word(word: str, text: str) -> tuple[int, int] | None:
    """(start, end) of the first place where `text` has the word, phrase or its plural."""
    asked = [part.casefold() for part in WORD.findall(word)]
    found = list(WORD.finditer(text))
    for i in range(len(found) - len(asked) + 1):
        here = [match[0].casefold() for match in found[i : i + len(asked)]]
        if here[:-1] == asked[:-1] and asked[-1] in (here[-1], *wordnet().singulars(here[-1])):
            return found[i].start(), found[i + len(asked) - 1].end()
    return None


def _refusal(message: str) -> SparsightError:
    return SparsightError(message, param="word")
