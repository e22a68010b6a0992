"""Answers written out for a person, whose verdict is the last word on both judges."""

from collections.abc import Sequence

from vlm.steering_evaluation.photographs import drawn
from vlm.steering_evaluation.sbert import SbertJudge
from vlm.steering_evaluation.wishes import Trial

N_EACH = 50


def answers_to_check(
    trials: Sequence[Trial], judge: SbertJudge, seed: int
) -> list[dict[str, object]]:
    """N_EACH answers drawn by chance, with both verdicts; "person" is left to be filled in."""
    chosen = [trials[i] for i in drawn(range(len(trials)), N_EACH, seed)]
    return [
        {
            "task": trial.wish.task,
            "image": trial.image,
            "source": trial.wish.source,
            "target": trial.wish.target,
            "before": trial.before,
            "after": trial.after,
            "words": trial.verdict.meets(trial.wish.task),
            "sbert": judge.meets(trial),
            "corrupt": list(trial.fired),
            "person": None,
        }
        for trial in chosen
    ]
