"""The photographs of an evaluation, what the model says of each unsteered, and their two halves."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sparse_encoder.errors import SparsightError
from vlm.answer_batches import Question, Sample
from vlm.mention import Lexicon, mentions
from vlm.steering_evaluation.answer_book import Ask, KeptAnswer

DEV, TEST = 0, 1


@dataclass(frozen=True)
class Photographs:
    """Photographs with their unsteered answers to one prompt, in parallel.

    half: DEV (doses are chosen there) or TEST (they are reported there) of each photograph.
    """

    samples: tuple[Sample, ...]
    unsteered: tuple[KeptAnswer, ...]
    half: tuple[int, ...]
    _said: dict[Lexicon, frozenset[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def ask(
        cls, ask: Ask, samples: Sequence[Sample], seed: int, prompt: str | None = None
    ) -> "Photographs":
        """Raises SparsightError where there is no photograph."""
        if not samples:
            raise SparsightError("no images to steer; expected at least one sample", param="data")
        answers = ask("unsteered", [Question(sample, prompt) for sample in samples])
        return cls(tuple(samples), tuple(answers), halves(samples, seed))

    def saying(self, lexicon: Lexicon) -> frozenset[int]:
        """Photographs whose unsteered answer mentions the concept."""
        if lexicon not in self._said:
            self._said[lexicon] = frozenset(
                i for i, text in enumerate(self.texts) if mentions(lexicon, text)
            )
        return self._said[lexicon]

    @cached_property
    def texts(self) -> list[str]:
        return [answer.text for answer in self.unsteered]

    def of_half(self, which: int) -> frozenset[int]:
        """Photographs of one half."""
        return frozenset(i for i, half in enumerate(self.half) if half == which)


def halves(samples: Sequence[Sample], seed: int) -> tuple[int, ...]:
    """DEV or TEST for each photograph, by chance; of each label one half (or one more) is DEV."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        by_label[sample.label or ""].append(i)
    rng = np.random.default_rng(seed)
    half = [DEV] * len(samples)
    extra = DEV  # the odd one goes to either half in turn
    for label in sorted(by_label):
        order = [by_label[label][i] for i in rng.permutation(len(by_label[label])).tolist()]
        for place, i in enumerate(order):
            half[i] = (place + extra) % 2
        extra = (extra + len(order)) % 2
    return tuple(half)


def drawn(photographs: Sequence[int] | frozenset[int], n: int, *seed: int) -> list[int]:
    """At most n of them, drawn by seed, in ascending order."""
    ordered = sorted(photographs)
    if len(ordered) <= n:
        return ordered
    rng = np.random.default_rng(seed)
    return sorted(rng.choice(ordered, size=n, replace=False).tolist())
