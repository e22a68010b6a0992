"""Retained content: what else an answer named before, and still names after steering.

The objects are the 80 of COCO. Which of them a photograph shows nobody annotated for us; what is
asked is only whether an object that the unsteered answer said is still said.
"""

from collections.abc import Sequence
from functools import cache, lru_cache

from vlm.mention import Lexicon, mentions, spans, tokens_of
from vlm.wordnet import wordnet

# COCO's categories (Lin et al. 2014, arXiv 1405.0312), in its order. For "tv" and "couch", see
# LABEL_SENSES of the mention test.
COCO_OBJECTS = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "ski",
    "snowboard",
    "ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
]


def retained(before: str, after: str, edited: Sequence[Lexicon]) -> float | None:
    """Share in [0, 1], higher is better, of other objects said before that are said after.

    edited: concepts that were steered; objects with a kind in common with them do not count. None
    where the answer before names no other object.
    """
    others = [
        name
        for name in objects_of(before)
        if not any(_meet(_lexicons()[name], lexicon) for lexicon in edited)
    ]
    if not others:
        return None
    return sum(name in objects_of(after) for name in others) / len(others)


@lru_cache(maxsize=100_000)
def objects_of(text: str) -> frozenset[str]:
    """The COCO objects that a text mentions."""
    phrases = _phrases(text)
    return frozenset(
        name
        for name, lexicon in _lexicons().items()
        if not lexicon.phrases.isdisjoint(phrases) and mentions(lexicon, text)
    )


def _phrases(text: str) -> set[str]:
    """All that the mention test could match; looking there first spares it for most objects."""
    tokens = tokens_of(text)
    return {
        "".join(f"{token} " for token in tokens[start : end - 1]) + last
        for start, end in spans(len(tokens))
        for last in wordnet().singulars(tokens[end - 1])
    }


@cache
def _lexicons() -> dict[str, Lexicon]:
    return {name: Lexicon.for_concept(name) for name in COCO_OBJECTS}


@lru_cache(maxsize=10_000)
def _meet(one: Lexicon, other: Lexicon) -> bool:
    """By their kinds; one name in common may be a stray (samoyed: a dog, and a person)."""
    if one.synsets and other.synsets:
        return not one.synsets.isdisjoint(other.synsets)
    return not one.own.isdisjoint(other.phrases)
