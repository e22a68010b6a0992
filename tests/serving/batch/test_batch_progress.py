"""What is said of how far a batch is."""

import pytest

from serving.batch import progress
from serving.batch.result import Result


@pytest.mark.parametrize(
    ("done", "failed", "seconds", "total", "said"),
    [
        (1200, 2, 353.0, 9000, "1,200 of 9,000 photographs, 3.4/s, 38 min left, 2 failed"),
        (50, 0, 100.0, None, "50 photographs, 0.5/s, 0 failed"),
        (3, 1, 0.0, 9, "3 of 9 photographs, 0/s, 1 failed"),
        (10, 0, 5.0, 9, "10 of 9 photographs, 2/s, 0 min left, 0 failed"),
    ],
)
def test_a_line_has_rate_time_left_and_failures(
    done: int, failed: int, seconds: float, total: int | None, said: str
) -> None:
    assert progress.line(done, failed, seconds, total) == said


def test_a_log_gets_a_line_now_and_then_and_all_results_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [Result("a.jpg", {"caption": "a dog"}), Result("b.jpg", error="cannot be read")]
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    assert list(progress.with_progress(results, 2)) == results
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("1 of 2 photographs") and first.endswith("0 failed")
    assert second.startswith("2 of 2 photographs") and second.endswith("1 failed")


def test_one_photograph_has_no_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    assert len(list(progress.with_progress([Result("a.jpg", {})], 1))) == 1
    assert capsys.readouterr().err == ""
