"""Runs the commands of README.md and docs/, and puts what they print where the pages show it.

Run ``python tests/docs/render_outputs.py`` (`make outputs`) after a change to the model or to what
commands print, and read the diff: prose beside an output may speak of it. Arguments are pages to do;
``--check`` changes nothing and fails where a page is not current.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import shown_outputs


def refresh(page: Path, check: bool) -> bool:
    """Whether the page was current; writes it anew where not, unless `check`."""
    text = page.read_text(encoding="utf-8")
    changes = []
    with tempfile.TemporaryDirectory() as folder:
        environment = shown_outputs.make_folder(Path(folder) / "checkout")
        for shown in shown_outputs.outputs(page):
            said = shown_outputs.printed(shown, Path(folder) / "checkout", environment)
            if not shown_outputs.same(shown.text, said):
                changes.append((shown, said))
    for shown, said in reversed(changes):
        command = shown.commands[-1].splitlines()[0]
        sys.stdout.write(f"{page.name}: {command}\n- {shown.text}+ {said}")
        text = text[: shown.span[0]] + said + text[shown.span[1] :]
    if changes and not check:
        page.write_text(text, encoding="utf-8")
    return not changes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path, default=shown_outputs.PAGES)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    current = [refresh(page, asked.check) for page in asked.pages]
    sys.exit(int(asked.check and not all(current)))
