"""Plots are drawn to scale; what cannot be drawn says so."""

import re
from xml.etree import ElementTree

import pytest

from sparse_encoder.evaluation.histogram import Histogram
from sparse_encoder.evaluation.svg_plots import Bar, bar_chart, heat_map, histogram_chart

SVG = ("rect", "line", "text", "title")


def marks(svg: str, kind: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(svg).iter() if e.tag == kind]


def test_bars_are_as_high_as_their_values() -> None:
    bars = [Bar(0, "one", 0.25, chance=0.5), Bar(1, "two", 1.0)]
    svg = bar_chart("Shares", [("set", bars)])
    quarter, whole = (float(r.attrib["height"]) for r in marks(svg, "rect"))
    assert quarter == pytest.approx(whole / 4, abs=0.1)
    assert "set, one: 25.0 % (chance 50.0 %)" in svg
    chance = [line for line in marks(svg, "line") if line.attrib["class"] == "mark"]
    top = float(marks(svg, "rect")[1].attrib["y"])
    assert float(chance[0].attrib["y1"]) == pytest.approx(top + whole / 2, abs=0.2)


def test_bins_are_as_high_as_their_counts_and_lie_at_their_edges() -> None:
    svg = histogram_chart("Counts", Histogram([0.0, 1.0, 4.0], [5, 10]), "x", mark=("half", 2.0))
    first, second = marks(svg, "rect")
    assert float(second.attrib["height"]) == pytest.approx(
        2 * float(first.attrib["height"]), abs=0.2
    )
    assert float(second.attrib["width"]) == pytest.approx(3 * float(first.attrib["width"]), abs=3)
    line = next(e for e in marks(svg, "line") if e.attrib["class"] == "mark")
    left, wide = float(second.attrib["x"]), float(second.attrib["width"])
    assert float(line.attrib["x1"]) == pytest.approx(left + wide / 3, abs=1)


def test_on_a_log_scale_decades_are_equally_wide() -> None:
    svg = histogram_chart("Counts", Histogram([0.01, 0.1, 1.0], [1, 1]), "x", log=True)
    one, other = (float(r.attrib["width"]) for r in marks(svg, "rect"))
    assert one == pytest.approx(other, abs=0.2)
    assert re.search(r">0\.1<", svg)


def test_the_map_is_darkest_where_most_features_are() -> None:
    svg = heat_map("Map", [[0, 3], [100, 1]], [0.01, 0.1, 1.0], "modality", "density")
    cells = marks(svg, "rect")
    assert len(cells) == 3  # empty cells are not drawn
    shade = {c.find("title").text.rsplit(": ")[1]: float(c.attrib["fill-opacity"]) for c in cells}  # type: ignore[union-attr]
    assert shade["100 features"] == 1.0 > shade["3 features"] > shade["1 features"] > 0
    low, high = (float(c.attrib["y"]) for c in cells[:2])
    assert low > high  # denser is further up


@pytest.mark.parametrize(
    "drawn",
    [
        bar_chart("A & b", []),
        bar_chart("A & b", [("set", [])]),
        histogram_chart("A & b", Histogram([], []), "x"),
        histogram_chart("A & b", Histogram([0, 1], [0]), "x"),
        heat_map("A & b", [], [], "x", "y"),
    ],
)
def test_nothing_to_draw_is_said_in_words(drawn: str) -> None:
    assert "A &amp; b: nothing to show" in drawn and "<svg" not in drawn
