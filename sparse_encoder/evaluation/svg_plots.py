"""Plots as inline SVG: bars, histograms and a heat map, without a script or a plotting library.

Colours are CSS classes (see `page`), so that a page in light or dark shows them both. Each
plot has a title for screen readers, and each mark a tooltip with its number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from sparse_encoder.evaluation.histogram import Histogram

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 20, 56  # margins, in the same units
_TICK = 0.2  # of linear axes, all of which are shares or cosines
_IN_X, _IN_Y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM


@dataclass(frozen=True)
class Bar:
    """One bar of a group; `chance` draws a tick at what guessing would reach."""

    series: int  # 0 to 5, the colour
    name: str
    value: float  # [0, 1]
    chance: float | None = None


def bar_chart(title: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Groups of bars side by side, shares in per cent."""
    if not any(bars for _, bars in groups):
        return nothing(title)
    parts = [_y_axis(1.0, lambda share: f"{100 * share:.0f} %")]
    step = _IN_X / len(groups)
    for i, (label, bars) in enumerate(groups):
        width = 0.8 * step / max(len(bars), 1)
        left = LEFT + i * step + 0.1 * step
        for j, bar in enumerate(bars):
            x, y = left + j * width, _y(bar.value)
            tip = f"{label}, {bar.name}: {100 * bar.value:.1f} %"
            if bar.chance is not None:
                tip += f" (chance {100 * bar.chance:.1f} %)"
            parts.append(_rect(x, y, width * 0.92, _y(0) - y, f"s{bar.series}", tip))
            if bar.chance is not None:
                parts.append(_line(x, _y(bar.chance), x + width * 0.92, _y(bar.chance), "mark"))
        for line, words in enumerate(label.split(", ")):  # in one line they would run together
            y = HEIGHT - BOTTOM + 18 + 15 * line
            parts.append(_text(LEFT + (i + 0.5) * step, y, words, "middle"))
    return _svg(title, parts)


def histogram_chart(
    title: str,
    histogram: Histogram,
    x_label: str,
    *,
    log: bool = False,
    mark: tuple[str, float] | None = None,
) -> str:
    """Counts a bin; `mark` is a named vertical line, such as a baseline."""
    if not sum(histogram.counts):
        return nothing(title)
    edges, top = histogram.edges, _round_up(max(histogram.counts))
    place = _scale(edges[0], edges[-1], log)
    parts = [_y_axis(top, lambda count: f"{count:,.0f}")]
    for i, count in enumerate(histogram.counts):
        x, right = place(edges[i]), place(edges[i + 1])
        y = _y(count / top)
        tip = f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {count:,} features"
        parts.append(_rect(x, y, max(right - x - 1, 0.5), _y(0) - y, "s0", tip))
    if mark is not None and edges[0] <= mark[1] <= edges[-1]:
        x = place(mark[1])
        parts += [
            _line(x, TOP, x, _y(0), "mark"),
            _text(x, TOP - 7, f"{mark[0]} {mark[1]:.3f}", "middle"),
        ]
    parts.append(_x_axis(edges[0], edges[-1], log, x_label))
    return _svg(title, parts)


def heat_map(
    title: str, cells: Sequence[Sequence[int]], y_edges: Sequence[float], x_label: str, y_label: str
) -> str:
    """Counts by x (evenly spaced on 0 to 1) and y (log-spaced edges), dark where many are.

    Shades follow the logarithm of the count: a few crowded cells would hide all others.
    """
    if not any(sum(row) for row in cells):
        return nothing(title)
    top = math.log1p(max(max(row) for row in cells))
    high, wide = _IN_Y / len(cells), _IN_X / len(cells[0])
    parts = []
    for i, row in enumerate(cells):
        for j, count in enumerate(row):
            if not count:
                continue
            tip = (
                f"modality {j / len(row):.2f} to {(j + 1) / len(row):.2f}, "
                f"{y_edges[i]:.2g} to {y_edges[i + 1]:.2g}: {count:,} features"
            )
            x, y = LEFT + j * wide, TOP + _IN_Y - (i + 1) * high
            parts.append(_rect(x, y, wide, high, "s0", tip, math.log1p(count) / top))
    low, last = math.log10(y_edges[0]), math.log10(y_edges[-1])
    for power in range(math.ceil(low), math.floor(last) + 1):
        y = _y((power - low) / (last - low))
        parts += [
            _line(LEFT - 4, y, LEFT, y, "axis"),
            _text(LEFT - 7, y + 4, f"{10.0**power:g}", "end"),
        ]
    parts += [
        _line(LEFT, TOP, LEFT, _y(0), "axis"),
        _x_axis(0.0, 1.0, False, x_label),
        _text(4, TOP - 7, f"up: {y_label}", "start"),
    ]
    return _svg(title, parts)


@dataclass(frozen=True)
class Line:
    """One curve of a line chart; `points` are (x, y) in order of x."""

    series: int  # 0 to 5, the colour
    name: str
    points: Sequence[tuple[float, float]]


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    words: Callable[[float], str],
    *,
    top: float,
    level: tuple[str, float] | None = None,
) -> str:
    """Curves over a number that grows from 0, such as pairs seen; y runs from 0 to `top`.

    words: a number of the y axis as text. level: a named horizontal line, such as chance.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return nothing(title)
    last = max(line.points[-1][0] for line in lines) or 1.0  # a run may have only begun
    parts = [_y_axis(top, words), _line(LEFT, _y(0), WIDTH - RIGHT, _y(0), "axis")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = LEFT + _IN_X * share
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{share * last:,.0f}", "middle"))
    if level is not None:
        y = _y(level[1] / top)
        parts += [
            _line(LEFT, y, WIDTH - RIGHT, y, "mark"),
            _text(LEFT + 6, y - 5, level[0], "start"),
        ]
    for i, line in enumerate(lines):
        places = [f"{LEFT + _IN_X * x / last:.1f},{_y(y / top):.1f}" for x, y in line.points]
        colour = f"var(--s{line.series})"
        tip = f"{line.name}: {words(line.points[-1][1])} at the end"
        parts.append(
            f'<polyline points="{" ".join(places)}" style="fill:none;stroke:{colour};'
            f'stroke-width:2"><title>{escape(tip)}</title></polyline>'
        )
        x = LEFT + 150 * i
        parts.append(f'<rect x="{x}" y="{TOP - 14}" width="10" height="10" style="fill:{colour}"/>')
        parts.append(_text(x + 15, TOP - 5, line.name, "start"))
    parts.append(_text(LEFT + _IN_X / 2, HEIGHT - 14, x_label, "middle"))
    return _svg(title, parts)


def nothing(title: str) -> str:
    """What stands where there is nothing to plot."""
    return f'<p class="nothing">{escape(title)}: nothing to show.</p>'


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _y(share: float) -> float:
    """Place of a share of the plot's height."""
    return TOP + _IN_Y * (1 - share)


def _round_up(count: int) -> int:
    """The next number whose quarters are whole and easy to read."""
    size: int = 10 ** max(len(str(count)) - 2, 0)
    steps = (4, 8, 12, 16, 20, 24, 32, 40, 48, 60, 80, 100)
    return next(step * size for step in steps if step * size >= count)


def _scale(low: float, high: float, log: bool) -> Callable[[float], float]:
    if log:
        return lambda v: (
            LEFT + _IN_X * (math.log10(v) - math.log10(low)) / (math.log10(high) - math.log10(low))
        )
    return lambda v: LEFT + _IN_X * (v - low) / (high - low)


def _y_axis(top: float, words: Callable[[float], str]) -> str:
    parts = [_line(LEFT, TOP, LEFT, _y(0), "axis")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            _line(LEFT, _y(share), WIDTH - RIGHT, _y(share), "grid"),
            _text(LEFT - 7, _y(share) + 4, words(share * top), "end"),
        ]
    return "".join(parts)


def _x_axis(low: float, high: float, log: bool, label: str) -> str:
    place = _scale(low, high, log)
    if log:
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        ticks = [10.0**p for p in powers] or [low, high]
    else:
        first, last = math.ceil(low / _TICK - 1e-9), math.floor(high / _TICK + 1e-9)
        ticks = [_TICK * i for i in range(first, last + 1)]
    parts = [_line(LEFT, _y(0), WIDTH - RIGHT, _y(0), "axis")]
    for tick in ticks:
        words = f"{tick:g}" if log else f"{tick:.1f}"
        parts += [
            _line(place(tick), _y(0), place(tick), _y(0) + 4, "axis"),
            _text(place(tick), HEIGHT - BOTTOM + 18, words, "middle"),
        ]
    parts.append(_text(LEFT + _IN_X / 2, HEIGHT - 14, label, "middle"))
    return "".join(parts)


def _rect(
    x: float, y: float, width: float, height: float, kind: str, tip: str, shade: float = 1.0
) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}" '
        f'fill-opacity="{shade:.2f}"><title>{escape(tip)}</title></rect>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
