"""A sweep as one SVG: likeness to the concept over dose, and the caption at each dose below."""

from html import escape

from vlm.sweep import Sweep, SweepPoint

WIDTH, PLOT, LEFT, RIGHT, TOP = 760, 220, 56, 16, 34
LINE = 18  # height of a caption's line
LONGEST = 100  # characters of a caption that fit the width
_STYLE = (
    "<style>svg{font:12px sans-serif}text{fill:#667085}.axis{stroke:#888}.grid{stroke:#8884}"
    ".curve{fill:none;stroke:#3b6fd4;stroke-width:2}.says{fill:#3b6fd4;stroke:#3b6fd4}"
    ".silent{fill:#fff;stroke:#3b6fd4}.mark{stroke:#c2632b;stroke-dasharray:4 3}</style>"
)


def sweep_svg(sweep: Sweep) -> str:
    """A file of its own; filled dots are answers that name the concept, dashes calibrated doses.

    Doses stand at even steps, since they are tried at uneven ones. Readable on light and dark.
    """
    points = [sweep.unsteered, *sweep.points]
    height = TOP + PLOT + 46 + LINE * len(points)
    step = (WIDTH - LEFT - RIGHT) / max(len(points) - 1, 1)
    places = [(LEFT + step * i, _y(point.likeness)) for i, point in enumerate(points)]
    title = f"{sweep.label}: likeness of the caption to the word, by dose"
    parts = [_text(LEFT, 18, title), *_axis()]
    parts += [
        _text(x, TOP + PLOT + 16, _dose(point), "middle")
        for (x, _), point in zip(places, points, strict=True)
    ]
    parts.append(_text(WIDTH - RIGHT, TOP + PLOT + 32, "dose, multiples of p99", "end"))
    parts += _marks(sweep, [x for x, _ in places[1:]])
    if sweep.unsteered.likeness is not None:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="curve" points="{line}"/>')
        for (x, y), point in zip(places, points, strict=True):
            kind = "says" if point.says else "silent"
            tip = _plain(f"{_dose(point)}: {point.answer.text}")
            parts.append(
                f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{tip}</title>'
                "</circle>"
            )
    for i, point in enumerate(points):
        y = TOP + PLOT + 50 + LINE * i
        parts += [_text(LEFT + 12, y, _dose(point), "end"), _text(LEFT + 24, y, _caption(point))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{escape(title)}</title>{_STYLE}{''.join(parts)}</svg>\n"
    )


def _marks(sweep: Sweep, places: list[float]) -> list[str]:
    """The calibrated doses, where the sweep tried them."""
    curve, parts = sweep.curve, []
    if curve is None:
        return []
    for name, dose in (("effective", curve.effective), ("safe_max", curve.safe_max)):
        at = [x for x, p in zip(places, sweep.points, strict=True) if p.dose == dose]
        if dose is not None and at:
            high = TOP - 2 if name == "safe_max" else TOP + 10
            parts.append(
                f'<line class="mark" x1="{at[0]:.1f}" y1="{TOP}" x2="{at[0]:.1f}" y2="{TOP + PLOT}"/>'
            )
            parts.append(_text(at[0], high, name, "middle"))
    return parts


def _axis() -> list[str]:
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, kind = _y(share), "axis" if share == 0 else "grid"
        lines.append(f'<line class="{kind}" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>')
        lines.append(_text(LEFT - 8, y + 4, f"{share:g}", "end"))
    return lines


def _y(likeness: float | None) -> float:
    """Place of a cosine; below 0 (unlike) is drawn at 0."""
    return TOP + PLOT * (1 - max(likeness or 0.0, 0.0))


def _dose(point: SweepPoint) -> str:
    return "unsteered" if point.dose is None else f"{point.dose:g}"


def _caption(point: SweepPoint) -> str:
    text = " ".join(point.answer.text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\u2026"


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_plain(words)}</text>'


def _plain(words: str) -> str:
    """As XML has it, which allows no control characters; a broken answer may hold some."""
    return escape("".join(c if c.isprintable() else "\ufffd" for c in words))
