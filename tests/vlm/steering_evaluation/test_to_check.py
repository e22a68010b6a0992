"""Answers for a person: so many, each once, with what both judges said."""

import pytest
from trials import embed, trial

from vlm.steering_evaluation.sbert import Sbert, SbertJudge
from vlm.steering_evaluation.to_check import answers_to_check

JUDGE = SbertJudge(Sbert(embed), 0.5)


@pytest.mark.parametrize(("n_trials", "n"), [(0, 0), (3, 3), (50, 50), (120, 50)])
def test_fifty_answers_are_drawn_or_all_there_are(n_trials: int, n: int) -> None:
    trials = [trial(True, image=i) for i in range(n_trials)]
    rows = answers_to_check(trials, JUDGE, 0)
    assert len(rows) == len({row["image"] for row in rows}) == n
    assert rows == answers_to_check(trials, JUDGE, 0)
    if n < n_trials:
        assert rows != answers_to_check(trials, JUDGE, 1)


def test_both_verdicts_stand_beside_the_answer_and_the_persons_is_left_open() -> None:
    said, silent = (
        answers_to_check([trial(ok, after=text)], JUDGE, 0)[0]
        for ok, text in ((True, "A cat."), (False, "A bus."))
    )
    assert (said["words"], said["sbert"], said["person"]) == (True, True, None)
    assert (silent["words"], silent["sbert"], silent["person"]) == (False, False, None)
    assert (said["before"], said["after"], said["target"]) == ("A dog.", "A cat.", "cat")
    (broken,) = answers_to_check([trial(True, corrupt=True)], JUDGE, 0)
    assert broken["corrupt"] == ["repetition"]
