"""Answers on disk: asked once, found again, never mistaken for another model's."""

import json
from pathlib import Path

import pytest
from fake_captioner import FakeCaptioner, fake_request, fake_sample

from sparse_encoder.errors import SparsightError
from vlm.answer_batches import Question
from vlm.edits import Edit
from vlm.steering_evaluation.answer_book import AnswerBook, Counting, Standing, read_answers

SAMPLES = [fake_sample(i) for i in range(20)]
PLAIN = {sample.key: f"A photo of {sample.key}\u2028." for sample in SAMPLES}


def book(path: Path, captioner: FakeCaptioner, model: str = "f" * 64, **more: object) -> AnswerBook:
    return AnswerBook(captioner, model, path, make_request=fake_request, **more)  # type: ignore[arg-type]


def test_a_question_is_asked_once_in_a_run_and_never_again_in_the_next(tmp_path: Path) -> None:
    path, captioner = tmp_path / "answers.jsonl", FakeCaptioner(SAMPLES, PLAIN)
    questions = [Question(sample) for sample in SAMPLES]
    first = book(path, captioner)("unsteered", [*questions, *questions])
    assert len(captioner.requests) == 20
    silent = FakeCaptioner(SAMPLES, {})
    assert book(path, silent)("unsteered", [*questions, *questions]) == first
    assert silent.requests == []
    assert [answer.text for answer in first[:20]] == [PLAIN[s.key] for s in SAMPLES]


def test_answers_come_in_the_order_of_the_questions_though_asked_by_photograph(
    tmp_path: Path,
) -> None:
    captioner = FakeCaptioner(SAMPLES, PLAIN)
    order = [7, 3, 19, 0, 3]
    found = book(tmp_path / "a.jsonl", captioner)("s", [Question(SAMPLES[i]) for i in order])
    assert [answer.text for answer in found] == [PLAIN[SAMPLES[i].key] for i in order]


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "What is it?"},
        {"edits": (Edit("ablate", concept="dog"),)},
        {"sample": SAMPLES[1]},
    ],
)
def test_another_prompt_edit_or_photograph_is_another_question(
    tmp_path: Path, other: dict[str, object]
) -> None:
    captioner = FakeCaptioner(SAMPLES, PLAIN, dict.fromkeys(PLAIN, "A cat."))
    asking = book(tmp_path / "a.jsonl", captioner)
    asking("s", [Question(SAMPLES[0])])
    asking("s", [Question(**{"sample": SAMPLES[0], **other})])  # type: ignore[arg-type]
    assert len(captioner.requests) == 2


def test_another_model_does_not_inherit_the_answers(tmp_path: Path) -> None:
    captioner = FakeCaptioner(SAMPLES, PLAIN)
    book(tmp_path / "a.jsonl", captioner)("s", [Question(SAMPLES[0])])
    book(tmp_path / "a.jsonl", captioner, "e" * 64)("s", [Question(SAMPLES[0])])
    assert len(captioner.requests) == 2


def test_a_run_killed_in_the_middle_of_a_line_loses_that_line_only(tmp_path: Path) -> None:
    path, captioner = tmp_path / "a.jsonl", FakeCaptioner(SAMPLES, PLAIN)
    book(path, captioner)("s", [Question(sample) for sample in SAMPLES])
    whole = path.read_text()
    path.write_text(whole[:-30])
    again = FakeCaptioner(SAMPLES, PLAIN)
    book(path, again)("s", [Question(sample) for sample in SAMPLES])
    assert len(again.requests) == 1
    assert len(read_answers(path)) == 20


def test_each_line_says_what_was_asked(tmp_path: Path) -> None:
    path, captioner = tmp_path / "a.jsonl", FakeCaptioner(SAMPLES, PLAIN)
    book(path, captioner)("stage", [Question(SAMPLES[2], edits=(Edit("ablate", concept="dog"),))])
    row = json.loads(path.read_text())
    assert (row["stage"], row["image"], row["edits"]) == (
        "stage",
        "image-002",
        [{"op": "ablate", "concept": "dog"}],
    )


@pytest.mark.parametrize("line", ["[1]", '{"id": 1}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(SparsightError, match="no answer of a steering evaluation"):
        book(path, FakeCaptioner(SAMPLES, PLAIN))


def test_progress_ends_with_nothing_left(tmp_path: Path) -> None:
    seen: list[Standing] = []
    captioner = FakeCaptioner(SAMPLES, PLAIN)
    asking = book(tmp_path / "a.jsonl", captioner, on_progress=seen.append)
    questions = [Question(sample) for sample in SAMPLES]
    counter = Counting("f" * 64)
    counter("s", questions)
    asking.expected = len(counter.asked)
    asking("s", questions)
    assert (seen[0].done, seen[0].seconds_left) == (0, None)
    middle = seen[1]
    assert (middle.done, middle.all_done, middle.all_of) == (16, 16, 20)
    assert middle.seconds_left is not None and middle.seconds_left > 0
    assert (seen[-1].done, seen[-1].of, seen[-1].seconds_left) == (20, 20, 0)


def test_counting_counts_what_a_book_would_ask(tmp_path: Path) -> None:
    questions = [Question(SAMPLES[i % 5]) for i in range(12)]
    counter, captioner = Counting("f" * 64), FakeCaptioner(SAMPLES, PLAIN)
    assert len(counter("s", questions)) == 12
    book(tmp_path / "a.jsonl", captioner)("s", questions)
    assert len(counter.asked) == len(captioner.requests) == 5
