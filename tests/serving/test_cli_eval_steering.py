"""``sparsight eval steering``: misuse is named before anything is loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from serving.cli.eval import _span
from serving.cli.main import main
from tests.tiny_model import tiny_pipeline
from vlm.steering_evaluation.sizes import FULL, MEDIUM, QUICK

MISUSE = [
    (["--quick"], "need --out"),
    (["--medium"], "need --out"),
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


class Found:
    """Stands in for what was measured."""

    def table(self) -> str:
        return "the table"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command hands on, in place of measuring."""
    seen: dict[str, Any] = {}

    def fixed(pipeline: object, samples: object, **more: Any) -> Found:
        seen.update(more)
        return Found()

    def whole(*given: Any) -> Found:
        seen["out"], seen["sizes"] = given[3], given[4]
        return Found()

    monkeypatch.setattr("serving.cli.eval.load_pipeline", lambda _: tiny_pipeline())
    monkeypatch.setattr("serving.cli.eval._samples", lambda data, name: [])
    monkeypatch.setattr("vlm.steering_evaluation.fixed_pairs.evaluate_steering", fixed)
    monkeypatch.setattr("vlm.steering_evaluation.measure.measure_steering", whole)
    monkeypatch.setattr("vlm.steering_evaluation.sbert.load_sbert", lambda _: None)
    monkeypatch.setattr("vlm.steering_evaluation.page.write_steering_report", lambda *_: [])
    return seen


def test_without_out_the_fixed_pairs_are_steered_as_the_model_card_says(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    arguments = ["eval", "steering", "--data", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, "--images", "7"])
    assert result.output.endswith("the table\n"), result.output
    settings = asked["settings"]
    assert (settings.k, settings.dose, settings.n_control_draws) == (16, 1.0, 5)
    assert settings.max_eligible == 7


def test_with_out_everything_is_measured_in_the_size_asked_for(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    arguments = ["eval", "steering", "tiny", "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert asked["sizes"] == FULL
    more = ["--quick", "--images", "9", "--seed", "3"]
    assert CliRunner().invoke(main, [*arguments, *more]).exit_code == 0
    assert asked["sizes"] == replace(QUICK, images=9, seed=3)
    assert CliRunner().invoke(main, [*arguments, "--medium", "--controls", "1"]).exit_code == 0
    assert asked["sizes"] == replace(MEDIUM, control_draws=1)
