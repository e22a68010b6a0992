"""Answers written out for a person, whose verdict is the last word on both judges."""

import json
from collections.abc import Sequence
from pathlib import Path

from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import write_whole
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


def write_to_check(rows: Sequence[dict[str, object]], path: Path) -> None:
    """One JSON line an answer, whole or not at all."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise SparsightError(f"cannot write {path}: {error}", param="out") from error
