"""How good unsteered captions are: CIDEr and BLEU-4 against human captions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
from vlm.caption_scores import CaptionScores, caption_scores


@dataclass(frozen=True)
class CaptionEvaluation:
    """Scores of one set; answers holds the captions they were computed from, by image key."""

    set_name: str
    scores: CaptionScores
    n_unfinished: int  # captions cut off at the token limit
    answers: dict[str, str] = field(repr=False)

    def to_json(self) -> dict[str, object]:
        return {
            "set": self.set_name,
            "images": len(self.answers),
            **self.scores.to_json(),
            "unfinished": self.n_unfinished,
        }

    def table(self) -> str:
        """One line of text."""
        return (
            f"{self.set_name}: CIDEr {self.scores.cider:.3f}, BLEU-4 {self.scores.bleu4:.3f} "
            f"({len(self.answers)} images, {self.n_unfinished} captions cut off)"
        )


def evaluate_captions(
    pipeline: Answering,
    samples: Sequence[Sample],
    *,
    set_name: str,
    on_progress: Progress = no_progress,
    batch_size: int = BATCH_SIZE,
    make_request: MakeRequest | None = None,
) -> CaptionEvaluation:
    """Captions every sample greedily with the default prompt and scores the captions.

    Raises SparsightError if there is no sample, a key occurs twice or a sample has no caption.
    """
    references = {sample.key: list(sample.captions) for sample in samples}
    if len(references) != len(samples):
        raise SparsightError(
            f"{set_name}: {len(samples)} images have only {len(references)} distinct keys; "
            "evaluate one split at a time"
        )
    given = answer_all(
        pipeline,
        [Question(sample) for sample in samples],
        stage=set_name,
        on_progress=on_progress,
        batch_size=batch_size,
        make_request=make_request,
    )
    answers = {sample.key: answer.text for sample, answer in zip(samples, given, strict=True)}
    n_unfinished = sum(answer.finish_reason != "stop" for answer in given)
    return CaptionEvaluation(set_name, caption_scores(answers, references), n_unfinished, answers)
