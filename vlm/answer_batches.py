"""Answers to many questions about many photographs, batch by batch: the loop under every evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage, decode_image
from vlm.edits import Edit

BATCH_SIZE = 16

Progress = Callable[[str, int, int], None]  # what is being answered, how many done, of how many
MakeRequest = Callable[..., Any]  # vlm.pipeline.caption_request


class Sample(Protocol):
    """An evaluation image; ``sparse_encoder.dataset.Sample`` is one."""

    @property
    def key(self) -> str: ...
    @property
    def image(self) -> bytes: ...
    @property
    def captions(self) -> Sequence[str]: ...
    @property
    def label(self) -> str | None: ...


class GivenAnswer(Protocol):
    """What an evaluation reads of ``vlm.pipeline.Answer``."""

    @property
    def text(self) -> str: ...
    @property
    def finish_reason(self) -> str: ...
    @property
    def n_completion_tokens(self) -> int: ...


class Answering(Protocol):
    """What an evaluation needs of ``vlm.pipeline.Pipeline``."""

    def answer(self, requests: Sequence[Any]) -> Sequence[GivenAnswer]: ...


class CodesOf(Protocol):
    """Makes a photograph's codes in another way than the encoder; the name tells ways apart."""

    @property
    def name(self) -> str: ...
    def __call__(self, image: DecodedImage) -> Codes: ...


@dataclass(frozen=True)
class Question:
    """One photograph, what is asked (None: the default caption prompt) and how it is steered."""

    sample: Sample
    prompt: str | None = None
    edits: tuple[Edit, ...] = ()
    codes_of: CodesOf | None = None  # steers in place of edits


def no_progress(stage: str, done: int, total: int) -> None:
    """The progress callback of callers that want none."""


def answer_all(
    pipeline: Answering,
    questions: Sequence[Question],
    *,
    stage: str,
    on_progress: Progress = no_progress,
    batch_size: int = BATCH_SIZE,
    make_request: MakeRequest | None = None,
) -> list[GivenAnswer]:
    """Greedy answers in the order of the questions.

    At most batch_size photographs are held decoded. make_request builds the pipeline's request from
    a DecodedImage, ``prompt`` and ``edits``; None means ``vlm.pipeline.caption_request``.
    """
    if make_request is None:
        # Imported late: vlm.pipeline brings in transformers, which a fake pipeline does not need.
        from vlm.pipeline import caption_request

        make_request = caption_request
    answers: list[GivenAnswer] = []
    on_progress(stage, 0, len(questions))
    for start in range(0, len(questions), batch_size):
        batch = questions[start : start + batch_size]
        answers.extend(pipeline.answer([request_of(question, make_request) for question in batch]))
        on_progress(stage, len(answers), len(questions))
    return answers


def request_of(question: Question, make_request: MakeRequest) -> Any:
    """The pipeline's request for one question."""
    image: DecodedImage = decode_image(question.sample.image)
    more: dict[str, Any] = {} if question.prompt is None else {"prompt": question.prompt}
    if question.codes_of is not None:
        more["codes"] = question.codes_of(image)
    return make_request(image, edits=question.edits, **more)
