"""Writes docs/reference/cli.md from the commands themselves.

Run ``python tests/docs/render_cli_reference.py`` after a change to the command line.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from serving.cli.main import main

TARGET = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
INTRO = """# Command line

<!-- Made by tests/docs/render_cli_reference.py; do not edit by hand. -->

Data goes to standard output, progress and warnings to standard error. Exit code 0: done, 1: failed
(or, for `caption`, at least one photograph failed; for `verify`, not equal), 2: misused.
`sparsight --debug COMMAND ...` shows tracebacks.

The edits that `--steer` takes are described in [edits.md](edits.md).
"""


def render() -> str:
    """The whole page."""
    sections = [
        f"## {name}\n\n```text\n{text}\n```\n" for name, text in _commands("sparsight", main)
    ]
    return "\n".join([INTRO, *sections])


def _commands(
    name: str, command: click.Command, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """Each command's full name and help, groups before their members."""
    # A fixed width, or the page would depend on the terminal that it was made in.
    context = click.Context(
        command,
        parent,
        info_name=name.rpartition(" ")[2],
        terminal_width=88,
        max_content_width=88,
        **command.context_settings,
    )
    lines = [line.rstrip() for line in command.get_help(context).splitlines()]
    yield name, "\n".join(lines)
    if isinstance(command, click.Group):
        for each in sorted(command.commands):
            yield from _commands(f"{name} {each}", command.commands[each], context)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
