"""The plots of a pretraining run, of made-up lines."""

import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.from_scratch import main
from sparse_encoder.pretrain.metrics import MetricsFile

PAGE = "before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """40 steps: top-1 rises from 1 to 20 % of 100 classes, L0 falls from 900 to 300."""
    file = MetricsFile(tmp_path)
    for step in (10, 20, 30, 40):
        entry = {"loss": 5 - step / 20, "image L0": 950.0 - step, "text L0": 900.0 - step}
        file.add(step, "train", {**entry, "pairs per second": 2.0})
        if step in (10, 40):
            share, l0 = (0.01, 900.0) if step == 10 else (0.2, 300.0)
            zeroshot = {"zero-shot top-1": share, "zero-shot image L0": l0}
            file.add(step, "val", {**zeroshot, "zero-shot classes": 100, "zero-shot images": 804.0})
    return tmp_path


def test_the_plots_are_drawings_with_every_measured_point(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--run", str(run), "--batch", "6", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for name, points in (("zeroshot", [2]), ("l0", [2, 4, 4]), ("loss", [4])):
        root = xml.fromstring((tmp_path / f"from-scratch-{name}.svg").read_text())
        curves = root.iter("{http://www.w3.org/2000/svg}polyline")
        assert [len(curve.attrib["points"].split()) for curve in curves] == points
        for curve in root.iter("{http://www.w3.org/2000/svg}polyline"):
            for place in curve.attrib["points"].split():
                x, y = map(float, place.split(","))
                assert 0 <= x <= 640
                assert 0 <= y <= 260


def test_the_page_gets_the_measured_figures_and_keeps_its_words(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    words = ["--run", str(run), "--batch", "6", "--out", str(tmp_path), "--page", str(page)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "After 240 pairs and 2 minutes" in text  # 240 pairs at 2 a second
    assert "20.0 % of 804 held-out pictures of 100 classes, 20.0 times chance" in text
    assert "from 900 at the first validation to 300" in text
    assert "| 240 | 20.0 % | 20.0 | 300 | - | - |" in text


def test_a_run_without_validation_or_a_page_without_marks_is_refused(
    run: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    words = ["--run", str(run), "--out", str(tmp_path), "--page", str(page)]
    assert "the page has no" in CliRunner().invoke(main, words).output
    bare = tmp_path / "bare"
    bare.mkdir()
    MetricsFile(bare).add(1, "train", {"loss": 1.0})
    result = CliRunner().invoke(main, ["--run", str(bare), "--out", str(tmp_path)])
    assert "no validation" in result.output
