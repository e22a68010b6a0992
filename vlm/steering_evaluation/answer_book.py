"""Answers kept on disk by question, so that an evaluation that was stopped goes on where it was.

Greedy answers are a function of model, photograph, prompt and edits: what was asked once need not be
asked again, by this run or by the next one with other settings. One JSON line an answer, written as
soon as it is there.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from sparse_encoder.errors import SparsightError
from vlm.answer_batches import (
    BATCH_SIZE,
    Answering,
    MakeRequest,
    Question,
    request_of,
)


@dataclass(frozen=True)
class KeptAnswer:
    """An answer as the book has it; a ``vlm.answer_batches.GivenAnswer``."""

    text: str
    finish_reason: str
    n_completion_tokens: int


@dataclass(frozen=True)
class Standing:
    """How far a run is: questions of this stage, of all stages, and the time that is left."""

    stage: str
    done: int
    of: int
    all_done: int
    all_of: int  # 0 where nobody counted them
    seconds_left: float | None  # None until the first answer of this run is there


class Ask(Protocol):
    """Answers in the order of the questions."""

    def __call__(self, stage: str, questions: Sequence[Question]) -> list[KeptAnswer]: ...


class AnswerBook:
    """Asks the pipeline what the file does not know yet. One process at a time may write a file."""

    def __init__(
        self,
        pipeline: Answering,
        fingerprint: str,
        path: Path,
        *,
        on_progress: Callable[[Standing], None] = lambda _: None,
        batch_size: int = BATCH_SIZE,
        make_request: MakeRequest | None = None,
    ) -> None:
        """path: read if it is there; lines of other models in it are never taken for this one's."""
        if make_request is None:
            from vlm.pipeline import caption_request

            make_request = caption_request
        self._pipeline = pipeline
        self._fingerprint = fingerprint
        self._path = path
        self._on_progress = on_progress
        self._batch_size = batch_size
        self._make_request = make_request
        self._known = read_answers(path)
        self._used: set[str] = set()
        self._fresh = 0
        self._seconds = 0.0
        self.expected = 0  # questions of all stages, for the time left; see `Counting`

    def __call__(self, stage: str, questions: Sequence[Question]) -> list[KeptAnswer]:
        """Answers in the order of the questions; equal questions are asked once.

        Questions about one photograph are asked one after another, so that it is encoded once.
        """
        names = [question_name(self._fingerprint, question) for question in questions]
        new = dict(zip(names, questions, strict=True))
        missing = sorted(
            (name for name in new if name not in self._known), key=lambda n: (new[n].sample.key, n)
        )
        self._used |= new.keys()
        self._tell(stage, len(new) - len(missing), len(new), len(missing))
        with self._opened() as file:
            for start in range(0, len(missing), self._batch_size):
                batch = missing[start : start + self._batch_size]
                began = time.monotonic()
                self._answer(stage, batch, [new[name] for name in batch], file)
                self._seconds += time.monotonic() - began
                self._fresh += len(batch)
                left = len(missing) - start - len(batch)
                self._tell(stage, len(new) - left, len(new), left)
        return [self._known[name] for name in names]

    @property
    def used(self) -> frozenset[str]:
        """Names of all questions asked so far, answered afresh or not."""
        return frozenset(self._used)

    def _answer(
        self, stage: str, names: Sequence[str], questions: Sequence[Question], file: TextIO
    ) -> None:
        requests = [request_of(question, self._make_request) for question in questions]
        given = self._pipeline.answer(requests)
        for name, question, answer in zip(names, questions, given, strict=True):
            kept = KeptAnswer(answer.text, answer.finish_reason, answer.n_completion_tokens)
            self._known[name] = kept
            line = {
                "id": name,
                "stage": stage,
                "image": question.sample.key,
                "prompt": question.prompt,
                "edits": [edit.to_json() for edit in question.edits],
                "codes": question.codes_of and question.codes_of.name,
                "answer": kept.text,
                "finish": kept.finish_reason,
                "tokens": kept.n_completion_tokens,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()

    def _opened(self) -> TextIO:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise SparsightError(
                f"cannot write answers to {self._path}: {error}", param="out"
            ) from error
        if file.tell():
            with self._path.open("rb") as written:
                written.seek(-1, os.SEEK_END)
                if written.read() != b"\n":
                    file.write("\n")  # a run was killed in the middle of a line
        return file

    def _tell(self, stage: str, done: int, of: int, left_here: int) -> None:
        answered = len(self._used) - left_here
        to_come = max(0, self.expected - answered)
        pace = self._seconds / self._fresh if self._fresh else None
        left = None if pace is None else pace * to_come
        # Pictures that turn out eligible on the way come on top of what was counted.
        all_of = max(self.expected, answered) if self.expected else 0
        self._on_progress(Standing(stage, done, of, answered, all_of, left))


class Counting:
    """Stands in for a book to count what an evaluation will ask; says one sentence to everything."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self.asked: set[str] = set()

    def __call__(self, stage: str, questions: Sequence[Question]) -> list[KeptAnswer]:
        self.asked |= {question_name(self._fingerprint, question) for question in questions}
        return [KeptAnswer("A photo.", "stop", 4)] * len(questions)


def question_name(fingerprint: str, question: Question) -> str:
    """sha256 over all that decides the answer: model, image bytes, prompt, edits, way of the codes."""
    parts = {
        "model": fingerprint,
        "image": hashlib.sha256(question.sample.image).hexdigest(),
        "prompt": question.prompt,
        "edits": [edit.to_json() for edit in question.edits],
        "codes": question.codes_of and question.codes_of.name,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_answers(path: Path) -> dict[str, KeptAnswer]:
    """Answers of a file by question; empty where there is none. A line cut short is passed over.

    Raises SparsightError for a file that cannot be read or holds something else.
    """
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SparsightError(f"cannot read answers from {path}: {error}", param="out") from error
    answers = {}
    for number, line in enumerate(lines):
        try:
            row: Any = json.loads(line)
        except ValueError:
            continue  # the line that a killed run was writing
        if not isinstance(row, dict) or not {"id", "answer", "finish", "tokens"} <= row.keys():
            raise SparsightError(
                f"line {number + 1} of {path} is no answer of a steering evaluation; give another "
                "folder",
                param="out",
            )
        answers[row["id"]] = KeptAnswer(row["answer"], row["finish"], row["tokens"])
    return answers
