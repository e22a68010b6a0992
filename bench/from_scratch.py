"""Plots of a pretraining run from its ``metrics.jsonl``: ``python -m bench.from_scratch --run OUT``.

Draws what ``docs/explanation/from-scratch.md`` shows and, with --page, writes its figures into it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sparse_encoder.evaluation.svg_plots import Line, line_chart
from sparse_encoder.pretrain.metrics import read_metrics

# Readable on a light and on a dark page; the names of the colours are those of the report's page.
_STYLE = """<style>
svg { --s0: #3b6fd4; --s2: #c2632b; --s4: #2f8f6b; --soft: #667085; font: 11px sans-serif; }
text { fill: var(--soft); } .grid { stroke: #8884; } .axis { stroke: #888; }
.mark { stroke: #888; stroke-dasharray: 4 3; }
</style>"""
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"
_AIM = 15  # times chance, of the zero-shot set


@click.command()
@click.option(
    "--run",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The --out of `sparsight train encoder`.",
)
@click.option("--batch", default=128, show_default=True, help="Pairs a step of that run.")
@click.option(
    "--out",
    default=Path("docs/images"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
)
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Markdown page whose figures are replaced, between its two marks.",
)
def main(folder: Path, batch: int, out: Path, page: Path | None) -> None:
    """Draws zero-shot accuracy, L0 and loss over pairs seen, and prints them as a table."""
    train, val = read_metrics(folder, "train"), read_metrics(folder, "val")
    if not val:
        raise click.ClickException(
            f"{folder} holds no validation; give --zeroshot-shards to the run"
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, plot in plots(train, val, batch).items():
        path = out / f"from-scratch-{name}.svg"
        path.write_text(standalone(plot) + "\n")
        click.echo(f"wrote {path}", err=True)
    figures = f"{summary(train, val, batch)}\n\n{table(val, batch)}"
    click.echo(figures)
    if page is not None:
        page.write_text(with_figures(page.read_text(encoding="utf-8"), figures), encoding="utf-8")


def plots(
    train: Sequence[dict[str, Any]], val: Sequence[dict[str, Any]], batch: int
) -> dict[str, str]:
    """SVG by name, of the lines that `read_metrics` gives."""
    chance = 1 / val[-1]["zero-shot classes"]
    accuracy = _points(val, "zero-shot top-1", batch)
    sparsity = [
        Line(0, "images, held out", _points(val, "zero-shot image L0", batch)),
        Line(2, "images, training batch", _points(train, "image L0", batch)),
        Line(4, "texts, training batch", _points(train, "text L0", batch)),
    ]
    highest = max(y for line in sparsity for _, y in line.points)
    loss = _points(train, "loss", batch)
    seen = "pairs seen"
    return {
        "zeroshot": line_chart(
            "Zero-shot accuracy on the held-out classes",
            [Line(0, "top-1", accuracy)],
            seen,
            lambda share: f"{100 * share:.0f} %",
            top=_above(max(max(y for _, y in accuracy), 1.2 * _AIM * chance), 0.04),
            level=(f"{_AIM} x chance", _AIM * chance),
        ),
        "l0": line_chart(
            "Active features of a code (L0, threshold 0)",
            sparsity,
            seen,
            lambda n: f"{n:,.0f}",
            top=_above(highest, 100),
        ),
        "loss": line_chart(
            "Contrastive loss of a batch",
            [Line(0, "loss", loss)],
            seen,
            lambda x: f"{x:.1f}",
            top=_above(max(y for _, y in loss), 1.0),
        ),
    }


def standalone(svg: str) -> str:
    """A plot as a file of its own, with its colours."""
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{_STYLE}{rest}'


def summary(train: Sequence[dict[str, Any]], val: Sequence[dict[str, Any]], batch: int) -> str:
    """The outcome in two sentences."""
    last, classes = val[-1], val[-1]["zero-shot classes"]
    times = last["zero-shot top-1"] * classes
    l0 = [row["zero-shot image L0"] for row in val]
    seconds = sum(
        (row["step"] - before) * batch / row["pairs per second"]
        for before, row in zip([0, *(r["step"] for r in train[:-1])], train, strict=True)
    )
    return (
        f"After {last['step'] * batch:,} pairs and {seconds / 60:.0f} minutes of training: "
        f"{100 * last['zero-shot top-1']:.1f} % of {last['zero-shot images']:,.0f} held-out pictures "
        f"of {classes} classes, {times:.1f} times chance (aim: {_AIM}). L0 of their codes went from "
        f"{l0[0]:,.0f} at the first validation to {l0[-1]:,.0f} at the last."
    )


def with_figures(text: str, figures: str) -> str:
    """`text` with what stands between its marks replaced."""
    before, _, rest = text.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise click.ClickException(f"the page has no {_BEGIN} before a {_END}")
    return f"{before}{_BEGIN}\n{figures}\n{_END}{after}"


def table(val: Sequence[dict[str, Any]], batch: int) -> str:
    """The validations as a Markdown table: about eight rows, the first and the last among them."""
    every = max(1, len(val) // 8)
    rows = [*val[:-1:every], val[-1]]
    lines = [
        "| pairs seen | zero-shot top-1 | x chance | image L0 | R@1 text to image | R@1 image to text |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        times = row["zero-shot top-1"] * row["zero-shot classes"]
        lines.append(
            f"| {row['step'] * batch:,} | {100 * row['zero-shot top-1']:.1f} % | {times:.1f} "
            f"| {row['zero-shot image L0']:,.0f} | {_per_cent(row, 'text to image')} "
            f"| {_per_cent(row, 'image to text')} |"
        )
    return "\n".join(lines)


def _per_cent(row: dict[str, Any], way: str) -> str:
    share = row.get(f"val R@1 {way}")
    return "-" if share is None else f"{100 * share:.1f} %"


def _points(rows: Sequence[dict[str, Any]], name: str, batch: int) -> list[tuple[float, float]]:
    return [(float(row["step"] * batch), float(row[name])) for row in rows if name in row]


def _above(value: float, step: float) -> float:
    """The next multiple of `step`."""
    return step * (int(value / step) + 1)


if __name__ == "__main__":
    main()
