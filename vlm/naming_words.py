"""The words that name features and that a concept may use."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sparse_encoder.errors import SparsightError
from vlm.wordnet import wordnet

WORDS = "text/words.txt"
SAID = 20  # captions that must say a word before it is one


def naming_words(
    data: Path, labels: Sequence[str], captions: Iterable[str]
) -> tuple[list[str], list[str]]:
    """(names, phrases): names are candidates for a feature's name, phrases are only understood.

    Names are all labels, and the nouns and adjectives that captions use; words that a list of
    common English has but captions do not can be asked for and never name a feature.
    """
    counts = Counter(w for c in captions for w in set(re.findall(r"[a-z]+", c.lower())))
    net = wordnet()
    said = [w for w, n in counts.items() if n >= SAID and len(w) > 2]
    names = {w for w in said if net.senses(w) or net.is_adjective(w)} | set(labels)
    common = _common_words(data / WORDS)
    phrases = {w for w in common if net.knows(w)} | {w for w, n in counts.items() if n >= 5}
    return sorted(names), sorted(phrases)


def _common_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise SparsightError(f"cannot read the word list {path}: {error}", param="data") from error
