"""Bars met and missed."""

import pytest

from vlm.steering_evaluation.bars import Measured, bars


def verdicts(measured: Measured) -> list[bool | None]:
    return [bar.met for bar in bars({"replacement": measured})]


@pytest.mark.parametrize(
    ("measured", "met"),
    [
        (Measured(0.70, 0.02, 0.69, 0.50), [True, True, True, True]),
        (Measured(0.69, 0.021, 0.69, 0.50), [False, False, False, False]),
        (Measured(0.9, 0.0), [True, True, None, None]),
        (Measured(None, None), [None] * 4),
    ],
)
def test_a_bar_is_met_at_its_edge_and_unknown_without_a_figure(
    measured: Measured, met: list[bool | None]
) -> None:
    assert verdicts(measured) == met


def test_a_bar_reads_as_a_sentence() -> None:
    words = [str(bar) for bar in bars({"insertion": Measured(0.812, 0.0)})]
    assert words[0] == "insertion, success: 81.2 %, wanted at least 75 %: met"
    assert words[2].endswith("not measured, wanted more than 0: cannot be told")


def test_the_strongest_strengths_have_bars_of_their_own_beside_the_others() -> None:
    found = bars({"replacement": Measured(0.5, 0.0, 0.4, 0.1, 0.7, 0.03)})
    assert [bar.name for bar in found[4:]] == [
        "replacement at the strongest, success",
        "replacement at the strongest, corrupt answers",
    ]
    assert [bar.met for bar in found] == [False, True, True, True, True, False]
