"""The arithmetic of bench/projector.py, and that it runs."""

import pytest
import torch
from click.testing import CliRunner

from bench.projector import crossing, main, measure, random_codes


def test_random_codes_have_their_density() -> None:
    codes = random_codes(500, 0.1, 40, torch.Generator().manual_seed(0))
    assert codes.n_rows == 40 and (codes.value > 0).all()
    assert len(codes.value) / (40 * 500) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("found", "at"),
    [
        ([(0.1, 1.0, 3.0), (0.2, 4.0, 3.0)], 0.1 + 0.1 * 2 / 3),
        ([(0.1, 1.0, 3.0), (0.2, 2.0, 3.0)], None),
        ([(0.1, 4.0, 3.0), (0.2, 9.0, 3.0)], None),
        ([(0.1, 1.0, 1.0), (0.2, 3.0, 1.0)], 0.1),
    ],
)
def test_times_cross_on_straight_lines(
    found: list[tuple[float, float, float]], at: float | None
) -> None:
    assert crossing(found) == (None if at is None else pytest.approx(at))


def test_flops_are_those_of_the_active_features() -> None:
    costs = measure(200, 0.1, 10, 4, 1)
    n = len(random_codes(200, 0.1, 10, torch.Generator().manual_seed(0)).value)
    assert costs["sparse"].gflop == (2 * n * 4 / 1e9,) * 2
    assert costs["dense"].gflop == (2 * 10 * 200 * 4 / 1e9,) * 2


def test_a_small_run_prints_a_line_a_density() -> None:
    n_threads = torch.get_num_threads()
    asked = ["--features", "300", "--density", "0.1", "--density", "0.5", "--rows", "9"]
    try:
        result = CliRunner().invoke(main, [*asked, "--hidden", "4", "--rounds", "1"])
    finally:
        torch.set_num_threads(n_threads)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["10 %", "50 %"]
    assert "the layer switches at 25%" in lines[-1]
