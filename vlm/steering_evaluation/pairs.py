"""The pairs on which steering is judged.

Fixed before any part of sparsight-mini was trained, and not to be changed when results are in: a
pair added or dropped afterwards would make the table a selection.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SteeringPair:
    """Source concept a and target concept b."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


STEERING_PAIRS = (
    SteeringPair("dog", "cat"),
    SteeringPair("cat", "dog"),
    SteeringPair("man", "woman"),
    # classes of Caltech-101
    SteeringPair("airplane", "helicopter"),
    SteeringPair("elephant", "kangaroo"),
    SteeringPair("butterfly", "dragonfly"),
    SteeringPair("pizza", "strawberry"),
    SteeringPair("laptop", "umbrella"),
)
