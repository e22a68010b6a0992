"""When a steered answer is broken: rules C1 to C5.

Thresholds that depend on the model (length, likelihood) are fitted on unsteered answers to the same
prompt, never on steered ones.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import numpy as np

from sparse_encoder.errors import SparsightError
from vlm.wordnet import wordnet

Rule = Literal["empty", "too_long", "repetition", "non_words", "perplexity"]  # C1 .. C5
RULES: tuple[Rule, ...] = get_args(Rule)

MIN_NLL_TOKENS = 4  # shorter answers are legitimately surprising
LONGEST_NGRAM = 6
MAX_COMPRESSION = 2.4  # raw / zlib size, Whisper's threshold
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
PLAIN_CHARACTER = re.compile(r"[\w\s.,;:'\"\-()?!\u2018\u2019\u201c\u201d]")
# WordNet lists nouns, verbs, adjectives and adverbs; these are the rest, and what is left of
# contractions.
FUNCTION_WORD_LIST = """
a about above across after against along although am among an and another any anybody anyone
anything are around as at be because been before behind being below beneath beside besides
between beyond both but by can cannot could did do does doing done down during each either else
every everybody everyone everything except few for from had has have having he her hers herself
him himself his how however i if in inside into is it its itself just least less like many may
me might mine more most much must my myself near neither nobody none nor not nothing of off on
once one onto or other others our ours ourselves out outside over own past per rather same she
should since so some somebody someone something such than that the their theirs them themselves
then there these they this those through throughout till to together toward towards under
underneath unless until unto up upon us very via was we were what whatever when where whereas
wherever whether which whichever while who whoever whom whose why will with within without would
yet you your yours yourself ain't aren't can't couldn't didn't doesn't don't hadn't hasn't
haven't isn't mustn't shouldn't wasn't weren't won't wouldn't i'm i've i'll i'd let's
"""
FUNCTION_WORDS = frozenset(FUNCTION_WORD_LIST.split())


class UnsteeredAnswer(Protocol):
    """What the length limit is fitted on; ``vlm.pipeline.Answer`` is one."""

    @property
    def n_completion_tokens(self) -> int: ...


@dataclass(frozen=True)
class CorruptionRules:
    """Fitted rules. Immutable.

    length_limit: tokens, 3 x the 95th percentile of unsteered
    lengths. nll_limit: nat a token, the 99th percentile of unsteered answers + 0.5; None where no
    likelihood was given, then "perplexity" never fires. extra_words: lower-case words that count
    as known besides WordNet's.
    """

    length_limit: float
    nll_limit: float | None
    extra_words: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def fit(
        cls,
        unsteered_answers: Sequence[UnsteeredAnswer],
        nlls: Sequence[float | None],
        extra_words: Iterable[str] = (),
    ) -> "CorruptionRules":
        """Thresholds from unsteered answers to one prompt.

        nlls: mean negative log-likelihood of each answer in nat a token, under the unsteered LM
        without image tokens, None where it was not computed; answers below MIN_NLL_TOKENS are left
        out. extra_words: the atlas's vocabulary, labels. Raises SparsightError if there is no
        answer or the counts of answers and likelihoods differ.
        """
        if not unsteered_answers:
            raise SparsightError("corruption rules need at least one unsteered answer to fit on")
        if len(nlls) != len(unsteered_answers):
            raise SparsightError(
                f"{len(nlls)} likelihoods for {len(unsteered_answers)} answers; expected one for "
                "each answer, None where it was not computed"
            )
        lengths = [answer.n_completion_tokens for answer in unsteered_answers]
        usual = [
            nll
            for nll, n_tokens in zip(nlls, lengths, strict=True)
            if nll is not None and n_tokens >= MIN_NLL_TOKENS
        ]
        return cls(
            length_limit=3 * float(np.percentile(lengths, 95)),
            nll_limit=float(np.percentile(usual, 99)) + 0.5 if usual else None,
            extra_words=frozenset(
                word for phrase in extra_words for word in phrase.lower().split()
            ),
        )

    def judge(
        self, answer: str, n_tokens: int, finished: bool, nll: float | None
    ) -> tuple[Rule, ...]:
        """The rules that fire, in the order C1 to C5; empty for a sound answer.

        n_tokens: generated tokens. finished: whether the model ended the answer itself. nll: as in
        ``fit``, None where it was not computed.
        """
        fired: dict[Rule, bool] = {
            "empty": not WORD.search(answer),
            "too_long": not finished or n_tokens > self.length_limit,
            "repetition": is_repetitive(answer),
            "non_words": self._has_non_words(answer),
            "perplexity": (
                nll is not None
                and self.nll_limit is not None
                and n_tokens >= MIN_NLL_TOKENS
                and nll > self.nll_limit
            ),
        }
        return tuple(rule for rule in RULES if fired[rule])

    def _has_non_words(self, answer: str) -> bool:
        """C4: more than 30 % unknown words, or more than 20 % odd characters."""
        words = words_of(answer)
        n_unknown = sum(not self._knows(word) for word in words)
        n_odd = sum(not PLAIN_CHARACTER.match(char) for char in answer)
        return n_unknown > 0.3 * len(words) or n_odd > 0.2 * len(answer)

    def _knows(self, word: str) -> bool:
        base = word.removesuffix("'s").removesuffix("'")
        return any(
            form in FUNCTION_WORDS or form in self.extra_words or wordnet().knows(form)
            for form in (word, base)
        )


def is_repetitive(answer: str) -> bool:
    """C3: an n-gram back to back (1 word 4 times, 2-6 words 3 times), or too little variety."""
    words = words_of(answer)
    for n in range(1, LONGEST_NGRAM + 1):
        needed = 4 if n == 1 else 3
        for start in range(len(words) - n * needed + 1):
            block = words[start : start + n]
            if words[start : start + n * needed] == block * needed:
                return True
    pairs = list(zip(words, words[1:], strict=False))
    if len(words) >= 16 and len(set(pairs)) < 0.5 * len(pairs):
        return True
    raw = answer.encode()
    return len(raw) >= 200 and len(raw) > MAX_COMPRESSION * len(zlib.compress(raw))


def words_of(answer: str) -> list[str]:
    """Lower-case alphabetic tokens."""
    return WORD.findall(answer.lower().replace("\u2019", "'"))
