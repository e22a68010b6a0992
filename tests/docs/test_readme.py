"""README and pages: links lead somewhere, commands exist, and what is cheap is run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from serving.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "demo").rglob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    """The contents of the fenced blocks in that language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def joined(block: str) -> list[str]:
    """The block's lines, one that ends with a backslash together with the next."""
    return block.replace("\\\n", " ").splitlines()


def commands(program: str) -> Iterator[Any]:
    """(page, words) of each shell line that runs this program, also within a line of text."""
    for page in PAGES:
        lines = [line for block in blocks(page, "sh") for line in joined(block)]
        inline = re.findall(rf"`({program} [^`]+)`", page.read_text(encoding="utf-8"))
        for line in [*lines, *inline]:
            for piece in re.split(r"[|;]|&&|>", line):
                words = shlex.split(piece)
                if words[:1] == [program]:
                    yield pytest.param(page, words[1:], id=f"{page.stem}: {' '.join(words)}"[:70])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_pictures_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower().strip()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        n = sum(
            each == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", each) is not None
            for each in found
        )
        found.append(f"{slug}-{n}" if n else slug)
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_pages_lead_to_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(((?:[^)\s#:]+\.md)?)#([^)\s]+)\)", text)
    missing = [
        f"{path}#{anchor}"
        for path, anchor in targets
        if anchor not in anchors(page.parent / path if path else page)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_path_of_somebodys_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:home|root|work|tmp|Users)/", page.read_text("utf-8")) == []


@pytest.mark.parametrize(("page", "words"), list(commands("sparsight")))
def test_documented_commands_and_options_exist(page: Path, words: list[str]) -> None:
    command: click.Command = main
    # With its settings: a command keeps the help option that its first context made.
    context = click.Context(main, info_name="sparsight", **main.context_settings)
    words = [word for word in words if word != "..."]
    while isinstance(command, click.Group):
        _, rest, _ = command.make_parser(context).parse_args(list(words))
        if not rest or not rest[0].islower():  # `sparsight --version`, `sparsight COMMAND`
            return
        name, words = rest[0], [*rest[1:]]
        found = command.get_command(context, name)
        assert found is not None, f"{page}: sparsight has no command {name}"
        command, context = found, click.Context(found, context, info_name=name)
    command.make_parser(context).parse_args(list(words))  # raises for an unknown option


@pytest.mark.parametrize(("page", "words"), list(commands("make")))
def test_documented_targets_of_make_exist(page: Path, words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in words if "=" not in word):
        assert re.search(rf"^{target}( [\w-]+)*:", makefile, re.MULTILINE), target


def test_the_readme_opens_with_sentence_picture_command_output_install_links() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    places = [
        text.index(part)
        for part in (
            "# Sparsight\n\nSparsight captions",
            "![",
            "```sh\nsparsight caption",
            "<!-- output -->",
            "## Install",
            "## Where to go",
            "## Numbers",
            "## Not in scope",
        )
    ]
    assert places == sorted(places)


def test_python_examples_run_against_a_gateway(fakes: Any, monkeypatch: Any) -> None:
    pipeline = fakes.FakePipeline()
    pipeline.name = "sparsight-mini"
    source = "\n".join(blocks(ROOT / "docs" / "how-to" / "steer-from-python.md", "python"))
    monkeypatch.chdir(ROOT)
    said: list[str] = []
    with fakes.served(pipeline) as url:
        code = source.replace("http://127.0.0.1:8000", url)
        exec(compile(code, "steer-from-python.md", "exec"), {"print": _into(said)})
    assert "ablate cat, clamp dog" in said[0]
    assert "unknown_concept" in "".join(said)
    assert [edit.op for edit in pipeline.requests[-1].edits] == ["scale"]


def _into(said: list[str]) -> Any:
    def record(*words: object, end: str = "\n") -> None:
        said.append(" ".join(map(str, words)) + end)

    return record
