"""Which other objects an answer keeps."""

import pytest

from vlm.mention import Lexicon
from vlm.steering_evaluation.retained import COCO_OBJECTS, objects_of, retained

CASES = [
    # before, after, steered, share
    ("A dog on a bench beside a man.", "A cat on a bench beside a man.", ("dog", "cat"), 1.0),
    ("A dog on a bench beside a man.", "A cat beside a man.", ("dog", "cat"), 0.5),
    ("A dog on a bench beside a man.", "A cat.", ("dog", "cat"), 0.0),
    ("A puppy.", "A cat.", ("dog", "cat"), None),  # a kind of what was steered
    ("A woman with an umbrella.", "A woman.", ("man",), 0.0),
    ("A man with an umbrella.", "An umbrella.", ("man",), 1.0),  # a man is a kind of person
    ("The sky.", "A cat.", ("cat",), None),
]


@pytest.mark.parametrize(("before", "after", "steered", "share"), CASES)
def test_objects_other_than_the_steered_ones_are_counted(
    before: str, after: str, steered: tuple[str, ...], share: float | None
) -> None:
    assert retained(before, after, [Lexicon.for_concept(c) for c in steered]) == share


def test_each_object_of_the_list_mentions_itself() -> None:
    assert len(COCO_OBJECTS) == len(set(COCO_OBJECTS)) == 80
    for name in COCO_OBJECTS:
        assert name in objects_of(f"A photo of a {name}."), name
