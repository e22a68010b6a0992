"""mkdocs hook: links that lead out of docs/ lead somewhere on the site, too.

Pages link as GitHub wants it, relative to the repository. A Markdown file of PAGES becomes a page of its
own; any other file that a page links to comes to lie under source/, as a page that shows it. What does not exist
is left as it is, so that a strict build fails for it.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "models/sparsight-mini/README.md": "model-card.md",
}
PICTURES = (".jpg", ".png", ".svg")
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """All pages, with those from outside of docs/."""
    for origin, place in PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / origin).read_text("utf-8")))
    for page in [*files.documentation_pages()]:
        for target, _ in LINK.findall("".join(FENCED.split(page.content_string)[::2])):
            origin = _origin(page.src_uri, target)
            place = _place(origin)
            if place.startswith("source/") and files.get_file_from_path(place) is None:
                made = (
                    {"abs_src_path": str(ROOT / origin)}
                    if place.endswith(PICTURES)
                    else {"content": _shown(origin)}
                )
                files.append(File.generated(config, place, **made))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page's text, its links relative to where it lies on the site."""

    def moved(link: re.Match[str]) -> str:
        place = _place(_origin(page.file.src_uri, link[1]))
        path = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        return f"]({path}{link[2] or ''})"

    if page.file.src_uri.startswith("source/"):
        return markdown
    pieces = FENCED.split(markdown)
    pieces[::2] = [LINK.sub(moved, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _origin(page: str, target: str) -> str:
    """What a page's link leads to, relative to the repository."""
    home = {place: origin for origin, place in PAGES.items()}.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), target))


def _place(origin: str) -> str:
    """Where a file of the repository lies on the site."""
    if origin in PAGES:
        return PAGES[origin]
    if origin.startswith("docs/"):
        return origin.removeprefix("docs/")
    if not (ROOT / origin).exists():
        return f"missing/{origin}"
    return f"source/{origin}" + ("" if origin.endswith(PICTURES) else ".md")


def _shown(origin: str) -> str:
    path = ROOT / origin
    if path.is_dir():
        names = sorted(os.listdir(path))
        return f"# {origin}\n\n" + "\n".join(f"- `{name}`" for name in names) + "\n"
    if path.suffix == ".md":
        return path.read_text("utf-8")
    kind = path.suffix.removeprefix(".") or "text"
    return f"# {origin}\n\n````{kind}\n{path.read_text('utf-8')}````\n"
