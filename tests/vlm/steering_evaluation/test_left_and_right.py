"""Edits of the left half, judged on pictures whose answers are known."""

from collections.abc import Sequence

from sparse_encoder.dataset import Sample
from tests.tiny_model import png
from vlm.answer_batches import Question
from vlm.corruption import CorruptionRules
from vlm.mention import Lexicon
from vlm.steering_evaluation.answer_book import KeptAnswer
from vlm.steering_evaluation.left_and_right import left_and_right, made_pictures
from vlm.steering_evaluation.photographs import TEST, Photographs
from vlm.steering_evaluation.wishes import Bench, Strength
from vlm.verdicts import Judge

THINGS = ["dog", "cat", "car"]


class TwoSides:
    """Says left and right; an edit with a region works, one without takes the right along."""

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind  # says the left side only

    def __call__(self, stage: str, questions: Sequence[Question]) -> list[KeptAnswer]:
        return [KeptAnswer(self._text(question), "stop", 8) for question in questions]

    def _text(self, question: Question) -> str:
        picture = question.sample
        sides = [picture.left] if self.blind else [picture.left, picture.right]  # type: ignore[attr-defined]
        for edit in question.edits:
            at = slice(0, 1) if edit.region else slice(0, 2)
            if edit.op == "ablate":
                sides[at] = [s for s in sides[at] if s != edit.concept] or (
                    [] if edit.region else ["thing"]
                )
                if not edit.region:
                    sides = sides[:0]
            else:
                sides.append(str(edit.concept))
        return "A photo of " + " and ".join(f"a {side}" for side in sides) + "."


def bench(ask: TwoSides) -> Bench:
    samples = [Sample(str(i), png(i), label=THINGS[i % 3]) for i in range(12)]
    said = tuple(KeptAnswer(f"A photo of a {sample.label}.", "stop", 6) for sample in samples)
    photographs = Photographs(tuple(samples), said, (TEST,) * 12)
    lexicons = {thing: Lexicon.for_concept(thing) for thing in [*THINGS, "pizza", "chair"]}
    return Bench(ask, photographs, lexicons, Judge(CorruptionRules(60, None)), 0)


STRENGTHS = dict.fromkeys(("insertion", "suppression", "replacement"), lambda _: Strength(4, 4.0))


def test_a_model_that_heeds_regions_keeps_the_right_side() -> None:
    for found in left_and_right(bench(TwoSides()), STRENGTHS, 5):  # type: ignore[arg-type]
        assert found.made == found.both.eligible == 5, found.kind
        assert found.both.value == 1, found.kind
        kept = 1 if "insert" in found.kind else 0
        assert found.whole_picture.value == kept, found.kind


def test_a_model_that_never_says_the_right_side_is_left_out_not_rewarded() -> None:
    found = {r.kind: r for r in left_and_right(bench(TwoSides(blind=True)), STRENGTHS, 5)}  # type: ignore[arg-type]
    assert found["different subjects, replace left"].both.eligible == 0
    assert found["different subjects, replace left"].both.value is None


def test_pictures_are_made_of_different_or_of_equal_subjects_as_asked() -> None:
    pictures = made_pictures(bench(TwoSides()), 6, False)
    assert len(pictures) == 6 and all(p.left != p.right for p in pictures)
    assert all(p.left == p.right for p in made_pictures(bench(TwoSides()), 6, True))
    assert all(p.new not in (p.left, p.right) for p in pictures)
