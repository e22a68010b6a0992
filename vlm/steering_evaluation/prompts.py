"""Baseline: asking in words, without steering. Obligatory: AxBench found it ahead of all features."""

from collections.abc import Mapping

from vlm.answer_batches import Question, Sample
from vlm.steering_evaluation.wishes import Way, Wish
from vlm.verdicts import Task

# Named ways of asking; {source} and {target} with their article.
PROMPTS: Mapping[str, Mapping[Task, str]] = {
    "mention": {
        "insertion": "Describe the image in one sentence. Mention {target}.",
        "suppression": "Describe the image in one sentence. Do not mention {source}.",
        "replacement": (
            "Describe the image in one sentence. Mention {target}, do not mention {source}."
        ),
    },
    "as if": {
        "insertion": "Describe the image as if there were {target} in it.",
        "suppression": "Describe the image as if there were no {bare_source} in it.",
        "replacement": "Describe the image as if the {bare_source} were {target}.",
    },
}


def prompted(name: str) -> Way:
    """A way that asks in words, one of PROMPTS."""

    def way(wish: Wish, sample: Sample) -> Question:
        words = PROMPTS[name][wish.task].format(
            source=a_or_an(wish.source or ""),
            target=a_or_an(wish.target or ""),
            bare_source=wish.source,
        )
        return Question(sample, words)

    return way


def a_or_an(concept: str) -> str:
    """ "a dog", "an elephant": the article by the first letter."""
    return f"{'an' if concept[:1].lower() in set('aeiou') else 'a'} {concept}"
