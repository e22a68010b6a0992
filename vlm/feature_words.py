"""Candidates for feature names, and what WordNet knows of them: base forms, and what follows.

Candidates are labels, noun phrases that captions use (adjectives or nouns before a noun), and the
words of lists that WordNet has as nouns.
"""

from collections import Counter
from collections.abc import Iterable

from sparse_encoder.dataset import Sample
from sparse_encoder.features.words import WordForms, normalise_word, tokens_of
from vlm.label_senses import LABEL_SENSES
from vlm.mention import is_synset_name
from vlm.wordnet import Synset, wordnet

LONGEST = 3  # tokens of a mined phrase
SAID = 5  # captions that must use a phrase before it is one
# Broader words lie at least so many steps below "entity": "animal" does, "object" does not.
LEAST_DEPTH = 6
# Plurals that WordNet also lists as nouns of their own (men: the work force).
LISTED_PLURALS = {"men": "man"}
# WordNet lists these as nouns (an are is an area, an in an inch); captions mean something else.
FUNCTION_WORDS = frozenset(
    tokens_of(
        "a an the are in on at as it its by be he she his her him they them their we us i me my you"
        " am is was do does did has have had can will may no so or and to of for from with over down"
        " out up off one two three four five six seven eight nine ten while who what where when why"
        " how this that these those there here then than some other another all both each side back"
        " front top left right behind next around about during like being looking holding wearing"
        " photo picture image photograph lot bit view close part set group kind type couple time day"
        " daytime taken"
    )
)


def name_candidates(
    samples: Iterable[Sample], listed: Iterable[str], captions: Iterable[str] = ()
) -> list[str]:
    """Candidates in the order in which the first of equal ones stands for them.

    Labels of the samples, noun phrases of their captions and of more `captions`, `listed` nouns.
    """
    labels: dict[str, None] = {}
    texts: list[str] = []
    for sample in samples:
        labels.update(dict.fromkeys(s for s in (sample.label, sample.detail) if s))
        texts += sample.captions
    return [*labels, *mined_phrases([*texts, *captions]), *nouns_among(listed)]


def mined_phrases(captions: Iterable[str], at_least: int = SAID) -> list[str]:
    """Nouns and noun phrases of at least so many captions, most frequent first."""
    counts: Counter[str] = Counter()
    for caption in captions:
        tokens = tokens_of(caption)
        counts.update(
            {
                " ".join(tokens[start:end])
                for start in range(len(tokens))
                for end in range(start + 1, min(start + LONGEST, len(tokens)) + 1)
            }
        )
    often = [(phrase, n) for phrase, n in counts.items() if n >= at_least]
    often.sort(key=lambda pair: (-pair[1], pair[0]))
    return [phrase for phrase, _ in often if is_noun_phrase(phrase)]


def is_noun_phrase(phrase: str) -> bool:
    """Whether the last word is a noun and those before it are nouns or adjectives."""
    net, (*before, head) = wordnet(), phrase.split()
    if any(word in FUNCTION_WORDS or len(word) < 3 for word in (*before, head)):
        return False
    return bool(net.senses(head)) and all(
        net.is_adjective(word) or net.senses(word) for word in before
    )


def nouns_among(words: Iterable[str]) -> list[str]:
    """Those that WordNet has as nouns, and that are no function words."""
    return [word for word in words if word not in FUNCTION_WORDS and wordnet().senses(word)]


def english_forms() -> WordForms:
    """WordNet's base forms of nouns, and the broader words of a noun's first sense."""
    return WordForms(base_form, _Broader())


def base_form(word: str) -> str:
    """The noun that a word is a form of: "dogs" gives "dog"; the word itself where it is none."""
    if word in LISTED_PLURALS:
        return LISTED_PLURALS[word]
    net = wordnet()
    senses = net.senses(word)
    for single in net.singulars(word):
        if any(single in sense.lemmas for sense in senses):
            return single
    return word


class _Broader:
    """Lemma -> synonyms and kinds-of of its first noun sense, kept once found."""

    def __init__(self) -> None:
        self._found: dict[str, frozenset[str]] = {}

    def __call__(self, lemma: str) -> frozenset[str]:
        if lemma not in self._found:
            self._found[lemma] = self._of(lemma)
        return self._found[lemma]

    def _of(self, lemma: str) -> frozenset[str]:
        net = wordnet()
        if lemma in FUNCTION_WORDS:
            return frozenset()
        words: set[str] = set()
        start: list[Synset] = []
        if lemma in LABEL_SENSES:
            for meaning in LABEL_SENSES[lemma]:
                if is_synset_name(meaning):
                    start.append(net.synset(meaning))
                else:
                    words.add(normalise_word(meaning))
        elif not net.is_adjective(lemma):
            start = list(net.senses(lemma)[:1])
        for synset in _with_ancestors(start):
            if synset in start or _depth(synset) >= LEAST_DEPTH:
                words.update(
                    normalise_word(word)
                    for word in synset.lemmas
                    if net.senses(word)[0].offset == synset.offset
                    and (synset not in start or not net.is_adjective(word))
                )
        return frozenset(words)


def _parents(synset: Synset) -> list[Synset]:
    return [wordnet().synset(f"n{offset:08d}") for offset in synset.parents]


def _with_ancestors(start: Iterable[Synset]) -> list[Synset]:
    found, to_visit = [], list(start)
    while to_visit:
        synset = to_visit.pop()
        if synset not in found:
            found.append(synset)
            to_visit += _parents(synset)
    return found


def _depth(synset: Synset) -> int:
    """Steps to the root, by the shortest way."""
    parents = _parents(synset)
    return 1 + min(map(_depth, parents)) if parents else 0
