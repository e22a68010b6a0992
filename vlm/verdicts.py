"""Judges many answers at once: mention test for both concepts of a pair, and the corruption rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sparse_encoder.errors import SparsightError
from vlm.answer_batches import GivenAnswer
from vlm.corruption import MIN_NLL_TOKENS, CorruptionRules, Rule
from vlm.mention import Lexicon, mentions

Task = Literal["replacement", "insertion", "suppression"]

# Mean negative log-likelihood of each text, nat a token, under the unsteered LM without image.
Nll = Callable[[Sequence[str]], Sequence[float]]


@dataclass(frozen=True)
class Verdict:
    """One answer judged: which concepts it mentions and which corruption rules fired."""

    says_source: bool
    says_target: bool
    fired: tuple[Rule, ...]

    def meets(self, task: Task) -> bool:
        """Whether the words are as the task wants them, corrupt or not."""
        target = self.says_target or task == "suppression"
        source_gone = not self.says_source or task == "insertion"
        return target and source_gone

    def succeeds(self, task: Task) -> bool:
        """As wanted and not corrupt."""
        return self.meets(task) and not self.fired


@dataclass(frozen=True)
class Judge:
    """Fitted corruption rules and, for the rule "perplexity", the likelihood they need."""

    rules: CorruptionRules
    nll: Nll | None = None

    def fired(self, answers: Sequence[GivenAnswer]) -> list[tuple[Rule, ...]]:
        """The corruption rules that fire on each answer."""
        values = likelihoods(answers, self.nll)
        return [
            self.rules.judge(
                answer.text, answer.n_completion_tokens, answer.finish_reason == "stop", value
            )
            for answer, value in zip(answers, values, strict=True)
        ]

    def verdicts(
        self, answers: Sequence[GivenAnswer], source: Lexicon, target: Lexicon
    ) -> list[Verdict]:
        """One verdict for each answer."""
        return [
            Verdict(mentions(source, answer.text), mentions(target, answer.text), fired)
            for answer, fired in zip(answers, self.fired(answers), strict=True)
        ]


def likelihoods(answers: Sequence[GivenAnswer], nll: Nll | None) -> list[float | None]:
    """What nll says of each answer, in one call; None for answers too short to be judged by it.

    Raises SparsightError if nll gives back another number of values than it was given texts.
    """
    long_enough = [
        i for i, answer in enumerate(answers) if answer.n_completion_tokens >= MIN_NLL_TOKENS
    ]
    values: list[float | None] = [None] * len(answers)
    if nll is None or not long_enough:
        return values
    computed = nll([answers[i].text for i in long_enough])
    if len(computed) != len(long_enough):
        raise SparsightError(
            f"nll gave {len(computed)} values for {len(long_enough)} texts; expected one for each"
        )
    for i, value in zip(long_enough, computed, strict=True):
        values[i] = float(value)
    return values
