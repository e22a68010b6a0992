"""``sparsight eval steering``: misuse is named before anything is loaded."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from serving.cli.eval import _span
from serving.cli.main import main

MISUSE = [
    (["--quick"], "need --out"),
    (["--force"], "need --out"),
    (["--seed", "3"], "need --out"),
    (["--out", "OUT", "--k", "4"], "chosen by measurement"),
    (["--out", "OUT", "--dose", "2"], "chosen by measurement"),
    (["--out", "OUT", "--images", "0"], "--images"),
    (["one", "--model", "two"], "give one of them"),
    (["--out", "FULL"], "--force replaces it"),
]


@pytest.mark.parametrize(("arguments", "word"), MISUSE)
def test_misuse_is_refused_with_the_option_named(
    arguments: list[str], word: str, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "report.json").write_text("{}")
    places = {"OUT": str(tmp_path / "out"), "FULL": str(tmp_path / "full")}
    given = [places.get(argument, argument) for argument in arguments]
    result = CliRunner().invoke(main, ["eval", "steering", "--data", str(tmp_path), *given])
    assert result.exit_code == 2, result.output
    assert word in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "0 min"), (600, "10 min"), (3600, "1 h 00 min"), (9000, "2 h 30 min")],
)
def test_the_time_left_reads_in_hours_and_minutes(seconds: float, words: str) -> None:
    assert _span(seconds) == words
