"""What the HTML reports have in common: one page that needs no network and no script."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import write_whole

JSON_FILE, PAGE_FILE = "report.json", "report.html"

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --rule: #d7dbe3; --page: #fff;
  --s0: #3b6fd4; --s1: #9bb9f0; --s2: #c2632b; --s3: #ecb08e; --s4: #2f8f6b; --s5: #9bd3bd; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #9aa3b5; --rule: #363d4c;
  --page: #14171f; --s0: #7ba4f5; --s1: #3c5c9c; --s2: #ee9a66; --s3: #92542f; --s4: #67c9a3;
  --s5: #31705a; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 54rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
p, li { max-width: 44rem; } .soft, .nothing { color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
.wide { overflow-x: auto; }
th, td { text-align: right; padding: .25rem .7rem; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
svg { width: 100%; height: auto; margin: .5rem 0; } svg text { font-size: 11px; fill: var(--soft); }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); } .mark { stroke: var(--ink);
  stroke-width: 1.5; } .key span { display: inline-block; margin-right: 1rem; }
.key i { display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem; }
""" + "\n".join(f".s{i} {{ fill: var(--s{i}); background: var(--s{i}); }}" for i in range(6))


def report_files(folder: Path) -> tuple[Path, Path]:
    """Where a report in `folder` lies: the numbers, the page."""
    return folder / JSON_FILE, folder / PAGE_FILE


def write_files(folder: Path, files: dict[Path, str]) -> None:
    """Writes the files of a report to `folder`, each whole or not at all.

    Raises SparsightError where nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            write_whole(path, text.encode())
    except OSError as error:
        raise SparsightError(
            f"cannot write the report to {folder}: {error}", param="out"
        ) from error


def document(title: str, sections: Sequence[str]) -> str:
    """A whole page of sections that are HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{chr(10).join(sections)}\n</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first column is text; nothing where there are no rows."""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    if not body:
        return ""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def legend(keys: dict[str, int]) -> str:
    """What each series of a plot is called, by its colour."""
    items = (f'<span><i class="s{i}"></i>{escape(name)}</span>' for name, i in keys.items())
    return f'<p class="key">{"".join(items)}</p>' if keys else ""


def percent(share: float) -> str:
    """A share in [0, 1] as "62.5"."""
    return f"{100 * share:.1f}"


def number(value: float | None) -> str:
    """ "0.625"; "-" of nothing."""
    return "-" if value is None else f"{value:.3f}"
