"""Region-limited edits: the left half of a made-up picture is edited, the right half should stay.

Pictures are two labelled photographs side by side. Where their subjects differ, the answer must lose
(or gain) the left one and keep the right one; where both are the same, it must still say it, for only
one of the two was edited. Judged by words, on pictures whose unsteered answer says what is needed.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sparse_encoder.image import decode_image
from vlm.answer_batches import Question, Sample
from vlm.edits import Edit
from vlm.mention import mentions, pair_is_valid
from vlm.rate import Rate
from vlm.steering_evaluation.photographs import TEST
from vlm.steering_evaluation.task_wishes import target_for
from vlm.steering_evaluation.wishes import Bench, Strength
from vlm.verdicts import Task

SIDE = 224  # pixels of each half
LEFT = (0.0, 0.0, 0.5, 1.0)


@dataclass(frozen=True)
class MadePicture:
    """Two photographs side by side, as a sample."""

    key: str
    image: bytes
    left: str  # concepts
    right: str
    new: str  # what is put into the left half
    captions: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True)
class RegionResult:
    """One kind of edit on the left half. made: pictures; the rates are over the eligible ones."""

    kind: str
    made: int
    left_as_wished: Rate
    right_kept: Rate
    both: Rate
    whole_picture: Rate  # right kept by the same edit without a region: what the region is for

    def to_json(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "made": self.made,
            "left_as_wished": self.left_as_wished.to_json(),
            "right_kept": self.right_kept.to_json(),
            "both": self.both.to_json(),
            "right_kept_by_the_edit_of_the_whole": self.whole_picture.to_json(),
        }


def left_and_right(
    bench: Bench, strength_of: dict[Task, Callable[[str], Strength]], n_pictures: int
) -> list[RegionResult]:
    """n_pictures of different subjects and as many of equal ones, from the test half."""
    different, same = (
        made_pictures(bench, n_pictures, False),
        made_pictures(bench, n_pictures, True),
    )
    return [
        _result(bench, "different subjects, insert left", different, strength_of),
        _result(bench, "different subjects, suppress left", different, strength_of),
        _result(bench, "different subjects, replace left", different, strength_of),
        _result(bench, "equal subjects, replace left", same, strength_of),
    ]


def made_pictures(bench: Bench, n: int, same: bool) -> list[MadePicture]:
    """Pictures of two photographs of the test half whose own answers say their labels."""
    photographs = bench.photographs
    labels = {
        i: label
        for i in sorted(photographs.of_half(TEST))
        if (label := " ".join((photographs.samples[i].label or "").lower().split()))
        in bench.lexicons
        and i in photographs.saying(bench.lexicons[label])
    }
    rng = np.random.default_rng([bench.seed, int(same)])
    pictures: list[MadePicture] = []
    order = [list(labels)[i] for i in rng.permutation(len(labels)).tolist()]
    for left in order:
        others = [
            i
            for i in order
            if i != left
            and (
                labels[i] == labels[left]
                if same
                else pair_is_valid(bench.lexicons[labels[i]], bench.lexicons[labels[left]])
            )
        ]
        if len(pictures) == n:
            break
        if not others:
            continue
        right = others[int(rng.integers(len(others)))]
        new = target_for(bench, left, labels[left], labels[right])
        if new is None:
            continue
        samples = photographs.samples
        pictures.append(
            MadePicture(
                f"{samples[left].key}|{samples[right].key}",
                side_by_side(samples[left], samples[right]),
                labels[left],
                labels[right],
                new,
            )
        )
    return pictures


def side_by_side(left: Sample, right: Sample) -> bytes:
    """A PNG file of both, each the middle square at SIDE pixels."""
    picture = Image.new("RGB", (2 * SIDE, SIDE))
    for place, sample in enumerate((left, right)):
        photo = decode_image(sample.image).pixels
        edge = min(photo.size)
        x, y = (photo.width - edge) // 2, (photo.height - edge) // 2
        square = photo.crop((x, y, x + edge, y + edge)).resize((SIDE, SIDE))
        picture.paste(square, (place * SIDE, 0))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _result(
    bench: Bench,
    kind: str,
    pictures: Sequence[MadePicture],
    strength_of: dict[Task, Callable[[str], Strength]],
) -> RegionResult:
    task: Task = (
        "insertion" if "insert" in kind else "suppression" if "suppress" in kind else "replacement"
    )
    plain = bench.ask("side by side, unsteered", [Question(picture) for picture in pictures])
    eligible = [
        picture
        for picture, answer in zip(pictures, plain, strict=True)
        if _eligible(bench, picture, task, answer.text)
    ]

    def asked(region: tuple[float, float, float, float] | None) -> list[str | None]:
        where = "the whole" if region is None else "the left half"
        questions = [
            Question(picture, edits=_edits(picture, task, strength_of[task], region))
            for picture in eligible
        ]
        answers = bench.ask(f"side by side, {kind}, {where}", questions)
        return [
            None if broken else answer.text
            for answer, broken in zip(answers, bench.judge.fired(answers), strict=True)
        ]

    texts, whole = asked(LEFT), asked(None)
    left = [_left_as_wished(bench, p, task, text) for p, text in zip(eligible, texts, strict=True)]
    right = [_says(bench, p.right, text) for p, text in zip(eligible, texts, strict=True)]
    return RegionResult(
        kind,
        len(pictures),
        Rate.of(left),
        Rate.of(right),
        Rate.of([a and b for a, b in zip(left, right, strict=True)]),
        Rate.of([_says(bench, p.right, text) for p, text in zip(eligible, whole, strict=True)]),
    )


def _eligible(bench: Bench, picture: MadePicture, task: Task, text: str) -> bool:
    """The right subject is said, the new one is not, and the left one is where it must go."""
    return (
        _says(bench, picture.right, text)
        and not _says(bench, picture.new, text)
        and (task == "insertion" or _says(bench, picture.left, text))
    )


def _left_as_wished(bench: Bench, picture: MadePicture, task: Task, text: str | None) -> bool:
    gone = picture.left == picture.right or not _says(bench, picture.left, text)
    new = _says(bench, picture.new, text)
    if text is None:
        return False
    return {"insertion": new, "suppression": gone, "replacement": new and gone}[task]


def _says(bench: Bench, concept: str, text: str | None) -> bool:
    return text is not None and mentions(bench.lexicons[concept], text)


def _edits(
    picture: MadePicture,
    task: Task,
    strength_of: Callable[[str], Strength],
    region: tuple[float, float, float, float] | None,
) -> tuple[Edit, ...]:
    strength = strength_of(picture.new if task == "insertion" else picture.left)
    edits = []
    if task != "insertion":
        edits.append(Edit("ablate", concept=picture.left, k=strength.k, region=region))
    if task != "suppression":
        edits.append(
            Edit("clamp", concept=picture.new, value=strength.dose, k=strength.k, region=region)
        )
    return tuple(edits)
