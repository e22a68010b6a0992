"""How often a one-word answer names the labelled subject, by the mention test."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparse_encoder.errors import SparsightError
from vlm.answer_batches import (
    BATCH_SIZE,
    Answering,
    MakeRequest,
    Progress,
    Question,
    Sample,
    answer_all,
    no_progress,
)
from vlm.mention import Lexicon, mentions
from vlm.rate import Rate
from vlm.template import SUBJECT_PROMPT


@dataclass(frozen=True)
class SubjectAnswer:
    """One image's answer and whether it names the label."""

    key: str
    label: str
    answer: str
    right: bool


@dataclass(frozen=True)
class SubjectEvaluation:
    """All answers, by set name."""

    sets: dict[str, tuple[SubjectAnswer, ...]]

    def accuracy(self, set_name: str) -> Rate:
        """Share of images of one set whose answer mentions their label; larger is better."""
        return Rate.of([answer.right for answer in self.sets[set_name]])

    def accuracy_by_label(self, set_name: str) -> dict[str, Rate]:
        """The same for each label, in alphabetical order."""
        outcomes: dict[str, list[bool]] = defaultdict(list)
        for answer in self.sets[set_name]:
            outcomes[answer.label].append(answer.right)
        return {label: Rate.of(outcomes[label]) for label in sorted(outcomes)}

    def to_json(self) -> dict[str, object]:
        return {
            name: {
                **self.accuracy(name).to_json(),
                "labels": {
                    label: [rate.successes, rate.eligible]
                    for label, rate in self.accuracy_by_label(name).items()
                },
                "wrong": [
                    {"key": answer.key, "label": answer.label, "answer": answer.answer}
                    for answer in answers
                    if not answer.right
                ],
            }
            for name, answers in self.sets.items()
        }

    def table(self) -> str:
        """One line of text for each set."""
        width = max((len(name) for name in self.sets), default=0)
        return "\n".join(f"{name:{width}}  {self.accuracy(name)}" for name in self.sets)


def evaluate_subjects(
    pipeline: Answering,
    sets: Mapping[str, Sequence[Sample]],
    *,
    prompt: str = SUBJECT_PROMPT,
    on_progress: Progress = no_progress,
    batch_size: int = BATCH_SIZE,
    make_request: MakeRequest | None = None,
) -> SubjectEvaluation:
    """Asks for the main subject of every image of every set.

    Raises SparsightError for a sample without a label.
    """
    results: dict[str, tuple[SubjectAnswer, ...]] = {}
    for name, samples in sets.items():
        labels = [label_of(sample, name) for sample in samples]
        lexicons = {label: Lexicon.for_concept(label) for label in set(labels)}
        given = answer_all(
            pipeline,
            [Question(sample, prompt) for sample in samples],
            stage=name,
            on_progress=on_progress,
            batch_size=batch_size,
            make_request=make_request,
        )
        results[name] = tuple(
            SubjectAnswer(sample.key, label, answer.text, mentions(lexicons[label], answer.text))
            for sample, label, answer in zip(samples, labels, given, strict=True)
        )
    return SubjectEvaluation(results)


def label_of(sample: Sample, set_name: str) -> str:
    """The sample's label; raises SparsightError where it has none."""
    if not sample.label:
        raise SparsightError(
            f"image {sample.key!r} of {set_name!r} has no label; subjects can only be judged on "
            "labelled sets"
        )
    return sample.label
