"""Things swapped, taken away or put in: in a caption, to go with the same edit of its code."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from vlm.wordnet import wordnet

# Kinds of things that can be seen: a word that covers the kind, which is what an ablated thing is
# called when nothing replaces it, and the synsets above all of its nouns.
_KINDS = {
    "person": ("person.n.01",),
    "animal": ("animal.n.01",),
    "food": ("food.n.01", "food.n.02"),
    "plant": ("plant.n.02",),
    "object": ("artifact.n.01",),
    "place": ("geological_formation.n.01", "body_of_water.n.01", "land.n.02"),
}
# A label with this many photographs or more is one that the encoder learned.
_SHOWN = 8
_ASKED_FOR = ("person", "animal", "food", "plant")  # kinds that are concepts of their own
WHOLE_KIND = 0.25  # share of things taken away that go with all others of their kind
_VOWEL = re.compile(r"[aeiou]", re.IGNORECASE)
_LINKS = ("and", "with", "next to", "near")
_IRREGULAR = {"man": "men", "woman": "women", "child": "children", "person": "people"}


@dataclass(frozen=True)
class Thing:
    """A visible noun that captions use."""

    name: str  # singular, lower case; may hold spaces
    plural: str
    kind: str  # key of _KINDS


@dataclass(frozen=True)
class Swap:
    """A caption after an edit: `target` in the place of `source`, or beside what was there.

    source: None where nothing was taken away. target: None where a general word took its place.
    """

    source: Thing | None
    target: Thing | None
    caption: str


class SwapTable:
    """Things that may be swapped, found in captions by whole words."""

    def __init__(self, things: Sequence[Thing], shown: Iterable[str] = ()) -> None:
        """shown: names of things that many photographs show; half of the targets are drawn there."""
        self.things = list(things)
        shown = set(shown)
        self._shown = [t for t in self.things if t.name in shown]
        self._by_word = {}
        for thing in things:
            self._by_word[thing.name] = self._by_word[thing.plural] = thing
        self._by_kind = _by_kind(self.things)
        self._shown_by_kind = _by_kind(self._shown)
        longest_first = sorted(self._by_word, key=len, reverse=True)
        self._pattern = re.compile(r"\b(" + "|".join(map(re.escape, longest_first)) + r")\b", re.I)

    @classmethod
    def mine(cls, captions: Iterable[str], labels: Mapping[str, int], at_least: int) -> "SwapTable":
        """Nouns said in `at_least` captions or more, and every label, that WordNet can place.

        labels: lower-case names with their numbers of photographs.
        """
        counts: dict[str, int] = {}
        for caption in captions:
            for word in set(re.findall(r"[a-z]+", caption.lower())):
                counts[word] = counts.get(word, 0) + 1
        # "young" and "white" are nouns too, but not in captions.
        said = {w for w, n in counts.items() if n >= at_least and not wordnet().is_adjective(w)}
        words = {_singular(w) for w in said} | set(labels)
        shown = {name for name, n in labels.items() if n >= _SHOWN}
        return cls([t for w in sorted(words) if (t := _thing(w)) is not None], shown)

    def draw(
        self, caption: str, random: np.random.Generator, suppress: float, insert: float = 0.0
    ) -> Swap | None:
        """A random swap in `caption`, None where it names no thing.

        suppress: share of swaps that put a general word in place of the thing. insert: share that
        leave it, and name another beside it.
        """
        found = sorted({self._by_word[m.lower()].name for m in self._pattern.findall(caption)})
        if not found:
            return None
        source = self._by_word[found[random.integers(len(found))]]
        kind = random.random()
        if kind < suppress:
            return self._taken_away(caption, source, found, random)
        target = self._target(source.kind, random)
        if target.name in found:
            return None
        if kind < suppress + insert:
            return Swap(None, target, _beside(caption, target.name, random))
        return Swap(source, target, self._replace(caption, source, target.name, target.plural))

    def _taken_away(
        self, caption: str, source: Thing, found: Sequence[str], random: np.random.Generator
    ) -> Swap:
        """A general word in place of the thing; or, sometimes, in place of all things of its kind.

        Who asks for no *person* means the man and the woman too, and so the edit is that of *person*.
        """
        whole = self._by_word.get(source.kind) if source.kind in _ASKED_FOR else None
        if whole is None or random.random() >= WHOLE_KIND:
            return Swap(source, None, self._replace(caption, source, _general_word(source)))
        for name in sorted(found, key=len, reverse=True):
            if (thing := self._by_word[name]).kind == source.kind:
                caption = self._replace(caption, thing, _general_word(whole))
        return Swap(whole, None, caption)

    def _target(self, kind: str, random: np.random.Generator) -> Thing:
        """Mostly of the same kind; half of the time a thing that the encoder knows well."""
        shown = random.random() < 0.5
        every, kinds = (self._shown, self._shown_by_kind) if shown else (self.things, self._by_kind)
        pool = (kinds[kind] if random.random() < 0.85 else every) or self.things
        return pool[random.integers(len(pool))]

    def _replace(self, caption: str, source: Thing, name: str, plural: str | None = None) -> str:
        plural = plural or plural_of(name)
        for old, new in ((source.plural, plural), (source.name, name)):
            caption = re.sub(rf"\b{re.escape(old)}\b", new, caption, flags=re.I)
        article = _article(name)
        return re.sub(
            rf"\b(a|an) {re.escape(name)}\b",
            lambda m: (article.capitalize() if m[1][0] == "A" else article) + " " + name,
            caption,
            flags=re.I,
        )


def _general_word(thing: Thing) -> str:
    """What is said in the place of a thing taken away; a kind itself cannot go by its own name."""
    return "thing" if thing.name == thing.kind else thing.kind


def _beside(caption: str, name: str, random: np.random.Generator) -> str:
    """The caption, or a mere label, with one more thing at its end."""
    text = caption.rstrip(". ")
    link = _LINKS[random.integers(len(_LINKS))] if len(text.split()) > 3 else "and"
    return f"{text} {link} {_article(name)} {name}{caption[len(text) :].rstrip()}"


def _article(name: str) -> str:
    """ "a" or "an" by the first letter."""
    return "an" if _VOWEL.match(name) else "a"


def _by_kind(things: Sequence[Thing]) -> dict[str, list[Thing]]:
    return {kind: [t for t in things if t.kind == kind] for kind in _KINDS}


def plural_of(noun: str) -> str:
    """A regular plural, or a common irregular one."""
    head, _, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith("man"):
        last = last[:-3] + "men"
    elif re.search(r"(s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()


def _singular(word: str) -> str:
    """The noun that `word` is the plural of, or else `word`."""
    return next((s for s in wordnet().singulars(word) if s != word and plural_of(s) == word), word)


def _thing(word: str) -> Thing | None:
    senses = wordnet().senses(word) or wordnet().senses(word.split()[-1])
    # The first sense is the commonest; a word that is mostly a verb or an idea is no thing.
    if not senses or len(word) < 3:
        return None
    kind = next((k for k, below in _closures().items() if senses[0].offset in below), None)
    return None if kind is None else Thing(word, plural_of(word), kind)


@cache
def _closures() -> dict[str, frozenset[int]]:
    net = wordnet()
    return {
        kind: frozenset().union(*(net.closure(net.synset(root)) for root in roots))
        for kind, roots in _KINDS.items()
    }
