"""What pages show as the output of their commands: found, made by running them, compared, replaced.

On a page, a block in `sh` is followed by a marked block with what it prints on standard output:

    ```sh
    sparsight caption demo/examples/chelsea.jpg
    ```

    <!-- output -->
    ```text
    A photo of a cat.
    ```

`<!-- output exit=1 -->` is for commands that end so; `<!-- run: COMMAND -->` runs something that is not
shown, such as making a folder of photographs. Of a page that has `<!-- every command runs -->` each `sh`
block is run, but for those that only a reader at a terminal can do (BY_HAND); of others, what stands
above an output. A page's commands run in one folder that looks like a checkout, in order.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
EVERY = "<!-- every command runs -->"
# A clone, an installation, a server in a terminal of its own; pages start none themselves.
BY_HAND = re.compile(
    r"^(git clone|cd |make |source |pip |python3?[.\d]* -m (venv|pip)|sparsight serve)"
)
PIECE = re.compile(
    r"^<!-- run: (?P<hidden>.*?) -->$"
    r"|^```sh\n(?P<shell>.*?)^```$"
    r"|^<!-- output(?: exit=(?P<exit>\d+))? -->\n```(?P<kind>\w+)\n(?P<shown>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Shown:
    """An output on a page: what is run for it, and what is shown."""

    commands: tuple[str, ...]  # run before, not shown; the last one prints the output
    exit_code: int
    text: str
    span: tuple[int, int]  # of `text` in the page


def outputs(page: Path) -> list[Shown]:
    """All outputs of a page, in order. Commands without one are run before the next that has one."""
    text = page.read_text(encoding="utf-8")
    every = EVERY in text
    found: list[Shown] = []
    waiting: list[str] = []
    shell = ""
    for piece in PIECE.finditer(text):
        if piece["hidden"]:
            waiting.append(piece["hidden"])
        elif piece["shell"] is not None:
            if shell and every:
                waiting.append(shell)
            shell = "" if BY_HAND.match(piece["shell"]) else piece["shell"]
        else:
            assert shell, f"{page.name}: an output without a command above it: {piece[0][:200]}"
            found.append(
                Shown(
                    (*waiting, shell), int(piece["exit"] or 0), piece["shown"], piece.span("shown")
                )
            )
            waiting, shell = [], ""
    if every:
        assert not shell, f"{page.name}: nothing shows what this prints: {shell}"
    return found


def make_folder(folder: Path) -> dict[str, str]:
    """Makes a folder look like a checkout whose environment is active; gives the environment."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("demo", "examples"):
        (folder / name).symlink_to(ROOT / name)
    programs = folder.resolve() / ".programs"
    programs.mkdir()
    for name, words in {"sparsight": "-m serving.cli.main", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (programs / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "88",
    }


def printed(shown: Shown, folder: Path, environment: dict[str, str]) -> str:
    """What the commands print now. Raises AssertionError where one ends otherwise than expected."""
    said = ""
    for i, command in enumerate(shown.commands):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        last = i == len(shown.commands) - 1
        wanted = shown.exit_code if last else 0
        assert done.returncode == wanted, (
            f"{command}\nexit {done.returncode}: {done.stderr[-2000:]}"
        )
        said = done.stdout
    assert said, f"nothing on standard output: {shown.commands[-1]}"
    return said if said.endswith("\n") else said + "\n"


def same(shown: str, said: str) -> bool:
    """Equal words, and decimals within 2 %: last digits differ from processor to processor."""
    words = [NUMBER.sub("0", text).split() for text in (shown, said)]
    numbers = [[float(n) for n in NUMBER.findall(t)] for t in (shown, said)]
    return words[0] == words[1] and all(
        abs(a - b) <= 0.02 * max(abs(a), abs(b)) + 0.011 for a, b in zip(*numbers, strict=True)
    )
