"""Whether an answer mentions a concept, and whether two concepts make a fair pair.

The concept's synset and all kinds of it, no hypernyms; whole-token n-grams
of 1-4 words, plural or singular; a negation up to 3 tokens earlier cancels a mention.

Three refinements, each against a wrong count that the bare rules give:

- *Stray lemmas.* Besides the words by which the concept was asked for, a lemma counts only if its
  first noun sense is the concept or a kind of it; that of a kind must be no adjective either. Else
  "cat" (a gossip) mentions a woman, "blue" a butterfly, "electric" a car and half the dictionary a
  person. Everyday names lost by this stand in ``EVERYDAY_NAMES``, leftovers in ``NOT_A_NAME``.
- *Compounds.* "hot dog" does not mention a dog, nor "teddy bear" a bear (``OTHER_COMPOUNDS``).
- *Joined spelling.* "bow tie" is found in "bowtie".
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sparse_encoder.errors import SparsightError
from vlm.label_senses import EVERYDAY_NAMES, LABEL_SENSES, NOT_A_NAME, OTHER_COMPOUNDS
from vlm.wordnet import IMAGENET_ID, SYNSET_NAME, Synset, spaced, wordnet

LONGEST_PHRASE = 4  # tokens
NEGATION_REACH = 3  # tokens before the match
NEGATIONS = frozenset({"no", "not", "without", "never"})
NEGATING_PAIRS = frozenset({("rather", "than"), ("instead", "of")})
TOKEN = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
ARTICLE = re.compile(r"^(?:an?|the)\s+")
AFTER_HEAD_NOUN = re.compile(r"\s(?:with|of|in|on|for|without)\s.*")


@dataclass(frozen=True)
class Lexicon:
    """The words that name a concept.

    own: the words by which it was asked for, phrases: those, its other names and those of kinds of
    it; both lower case, words parted by one space. synsets: WordNet offsets of the concept and of all kinds of it, empty
    where WordNet lacks it.
    """

    concept: str
    own: frozenset[str]
    phrases: frozenset[str]
    synsets: frozenset[int] = frozenset()

    @classmethod
    def for_concept(cls, concept: str) -> "Lexicon":
        """The lexicon of a synset ("dog.n.01", "n02084071") or of free text ("wild cat").

        Free text means, in this order: what ``LABEL_SENSES`` says, its first noun sense, or, where
        WordNet has no entry, just the phrase itself and its head noun ("ceiling fan", "fan").
        Raises SparsightError for an unknown synset and for text without a word.
        """
        if is_synset_name(concept):
            return cls._of_meanings(concept, [concept])
        text = ARTICLE.sub("", " ".join(concept.lower().split()))
        phrase = " ".join(tokens_of(text))
        if not phrase:
            raise SparsightError(
                f"concept {concept!r} has no word; give a noun like 'dog' or a synset like 'dog.n.01'"
            )
        if text in LABEL_SENSES:
            return cls._of_meanings(concept, (phrase, *LABEL_SENSES[text]))
        if senses := wordnet().senses(phrase):
            # under its listed singular too: of "carrots", "carrot" is a name
            names = {phrase, *wordnet().singulars(phrase)} & set(senses[0].lemmas)
            return cls._of_synsets(concept, senses[:1], {phrase} | names)
        return cls._of_synsets(concept, (), {phrase, head_noun(phrase)})

    @classmethod
    def _of_meanings(cls, concept: str, meanings: Iterable[str]) -> "Lexicon":
        """From synset names mixed with plain phrases; the word in a synset's name is a name too."""
        synsets: list[Synset] = []
        names: set[str] = set()
        for meaning in meanings:
            if not is_synset_name(meaning):
                names.add(spaced(meaning))
                continue
            synsets.append(wordnet().synset(meaning))
            by_name = SYNSET_NAME.fullmatch(meaning)
            names.add(spaced(by_name["lemma"]) if by_name else synsets[-1].lemmas[0])
        return cls._of_synsets(concept, synsets, names)

    @classmethod
    def _of_synsets(cls, concept: str, synsets: Iterable[Synset], names: set[str]) -> "Lexicon":
        roots = list(synsets)
        closure = {offset for root in roots for offset in wordnet().closure(root)}
        lemmas = {lemma for offset in closure for lemma in wordnet().lemmas(offset)}
        synonyms = {lemma for root in roots for lemma in root.lemmas}
        kept = {
            lemma
            for lemma in lemmas
            if lemma not in NOT_A_NAME
            and wordnet().senses(lemma)[0].offset in closure
            and (lemma in synonyms or not wordnet().is_adjective(lemma))
        }
        everyday = {
            name
            for synset_name, further in EVERYDAY_NAMES.items()
            if wordnet().synset(synset_name).offset in closure
            for name in further
        }
        own = names | joined(names)
        phrases = own | everyday | kept | joined(kept)
        return cls(concept, frozenset(own), frozenset(phrases), frozenset(closure))


def mentions(lexicon: Lexicon, answer: str) -> bool:
    """Whether the answer names the concept at least once without a negation."""
    tokens = tokens_of(answer)
    return any(
        not is_negated(tokens, start) and not ends_other_compound(lexicon, tokens, start, end)
        for start, end in spans(len(tokens))
        if is_phrase_of(lexicon, tokens[start:end])
    )


def pair_is_valid(source: Lexicon, target: Lexicon) -> bool:
    """Whether a steering pair can be judged: no kind and no name is common to both.

    So an ancestor and its descendant make no pair. Man and woman do: their closures share no
    synset, only the lemmas "cat" and "ex", which are stray in both.
    """
    return not (source.synsets & target.synsets or source.phrases & target.phrases)


def pair_lexicons(source: str, target: str) -> tuple[Lexicon, Lexicon]:
    """The lexicons of a valid pair. Raises SparsightError if it is not valid."""
    a, b = Lexicon.for_concept(source), Lexicon.for_concept(target)
    if not pair_is_valid(a, b):
        common = sorted(a.phrases & b.phrases)[:3] or "a kind"
        raise SparsightError(
            f"{source!r} and {target!r} have {common} in common, so no answer can tell them apart; "
            "choose two concepts of which neither is a kind of the other",
            code="invalid_pair",
        )
    return a, b


def is_synset_name(text: str) -> bool:
    """Whether the text is written like "dog.n.01" or "n02084071"."""
    return bool(SYNSET_NAME.fullmatch(text) or IMAGENET_ID.fullmatch(text))


def tokens_of(text: str) -> list[str]:
    """Lower-case words without accents and punctuation; "dog's" gives "dog", "isn't" stays whole."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("\u2019", "'"))
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return [token.removesuffix("'s") for token in TOKEN.findall(plain)]


def spans(n_tokens: int) -> Iterator[tuple[int, int]]:
    """All n-grams of up to LONGEST_PHRASE tokens as (start, end)."""
    for start in range(n_tokens):
        for end in range(start + 1, min(start + LONGEST_PHRASE, n_tokens) + 1):
            yield start, end


def is_phrase_of(lexicon: Lexicon, tokens: list[str]) -> bool:
    """Whether the tokens, their last one taken as it is or as a plural, are in the lexicon."""
    start = "".join(f"{token} " for token in tokens[:-1])
    return any(start + last in lexicon.phrases for last in wordnet().singulars(tokens[-1]))


def is_negated(tokens: list[str], start: int) -> bool:
    """Whether a negation ends within NEGATION_REACH tokens before position start."""
    for i in range(max(0, start - NEGATION_REACH), start):
        if tokens[i] in NEGATIONS or tokens[i].endswith("n't"):
            return True
        if i > 0 and (tokens[i - 1], tokens[i]) in NEGATING_PAIRS:
            return True
    return False


def ends_other_compound(lexicon: Lexicon, tokens: list[str], start: int, end: int) -> bool:
    """Whether the word before the match makes another thing of it: hot + dog."""
    compound = tokens[max(0, start - 1) : end]
    singulars = wordnet().singulars(compound[-1])
    return any(
        " ".join([*compound[:-1], singular]) in OTHER_COMPOUNDS for singular in singulars
    ) and not is_phrase_of(lexicon, compound)


def head_noun(phrase: str) -> str:
    """The last word before a preposition: "hat with a wide brim" -> "hat"."""
    return AFTER_HEAD_NOUN.sub("", phrase).split()[-1]


def joined(phrases: Iterable[str]) -> set[str]:
    """The phrases of several words, written as one."""
    return {phrase.replace(" ", "") for phrase in phrases if " " in phrase}
