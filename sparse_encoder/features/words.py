"""Words that may name a feature: read, cleaned, merged, and found in what is said of an image."""

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparse_encoder.errors import SparsightError

log = logging.getLogger(__name__)
LONGEST_WORD = 60  # characters; past that it is a sentence, or no text
LONGEST_PHRASE = 4  # tokens
TOKEN = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")


def normalise_word(word: str) -> str:
    """A word as candidates have it: NFKC, lower case, tokens parted by single spaces."""
    return " ".join(tokens_of(word))


def tokens_of(text: str) -> list[str]:
    """Words of any script, lower case; "dog's" gives "dog"."""
    plain = unicodedata.normalize("NFKC", text.replace("\u2019", "'")).lower()
    return [token.removesuffix("'s") for token in TOKEN.findall(plain)]


def read_word_list(path: Path) -> list[str]:
    """The words of a text file, one a line, as `clean_words` gives them.

    Raises SparsightError where the file cannot be read as UTF-8 or holds no word.
    """
    lines = read_text_lines(path, "the word list", "words")
    words = clean_words(lines)
    if not words:
        raise SparsightError(
            f"the word list {path} holds no word among its {len(lines)} lines; expected one word "
            f"or short phrase a line, at most {LONGEST_WORD} characters",
            param="words",
            code="no_words",
        )
    return words


def read_text_lines(path: Path, what: str, param: str) -> list[str]:
    """The lines of a text file. Raises SparsightError where it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SparsightError(
            f"cannot read {what} {path}: {error}; expected UTF-8 text, one entry a line",
            param=param,
        ) from error


def clean_words(words: Iterable[str]) -> list[str]:
    """Normalised words, each once, in their order. Overlong ones are left out, and that is logged."""
    kept: dict[str, None] = {}
    n_long = 0
    for word in words:
        if len(word.strip()) > LONGEST_WORD:
            n_long += 1
        elif clean := normalise_word(word):
            kept[clean] = None
    if n_long:
        log.warning("%d words of more than %d characters are left out", n_long, LONGEST_WORD)
    return list(kept)


def no_broader(_: str) -> frozenset[str]:
    """What a language without a lexicon knows of kinds: nothing."""
    return frozenset()


def plain_form(word: str) -> str:
    return word


@dataclass(frozen=True)
class WordForms:
    """What is the same word, and what follows from one: given from outside, by a lexicon.

    base: a single word to its base form ("dogs" to "dog"). broader: a phrase to the words that are
    true of whatever it names ("spaniel" to "dog" and "animal").
    """

    base: Callable[[str], str] = plain_form
    broader: Callable[[str], frozenset[str]] = no_broader
    _bases: dict[str, str] = field(default_factory=dict, repr=False)

    def lemma(self, phrase: str) -> str:
        """The phrase with its last word in base form; phrases of one lemma are one word."""
        head, _, last = phrase.rpartition(" ")
        if last not in self._bases:
            self._bases[last] = self.base(last)
        return f"{head} {self._bases[last]}".lstrip()

    def merged(self, words: Sequence[str]) -> dict[str, str]:
        """Lemma -> the word that stands for it: the lemma where it is listed, else the first."""
        out: dict[str, str] = {}
        for word in words:
            lemma = self.lemma(word)
            if word == lemma or lemma not in out:
                out[lemma] = word
        return out

    def said_in(self, texts: Iterable[str]) -> set[str]:
        """Lemmas of all that the texts of one image say, in phrases of up to LONGEST_PHRASE tokens."""
        found: set[str] = set()
        for text in texts:
            tokens = tokens_of(text)
            for start in range(len(tokens)):
                for end in range(start + 1, min(start + LONGEST_PHRASE, len(tokens)) + 1):
                    found.add(self.lemma(" ".join(tokens[start:end])))
        return found.union(*(self.broader(lemma) for lemma in found))


def images_with(
    lemmas: Iterable[str], said: Sequence[set[str]], at_least: int
) -> dict[str, list[int]]:
    """Lemma -> places of the images it is said of, for those said of `at_least` images."""
    wanted = set(lemmas)
    places: dict[str, list[int]] = defaultdict(list)
    for i, here in enumerate(said):
        for lemma in here & wanted:
            places[lemma].append(i)
    return {lemma: places[lemma] for lemma in sorted(places) if len(places[lemma]) >= at_least}
