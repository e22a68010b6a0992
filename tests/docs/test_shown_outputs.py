"""README and tutorial show what their commands print, with the model in the box."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import render_outputs
import shown_outputs
from click.testing import CliRunner

from serving.cli.main import main
from vlm.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "first-steered-caption.md"


@pytest.fixture(scope="module")
def loaded() -> dict[str, Pipeline]:
    """Pipelines by name: `make outputs` loads the model for each command, a test once."""
    return {}


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("page", [ROOT / "README.md", TUTORIAL], ids=lambda page: page.stem)
def test_a_page_shows_what_its_commands_print(
    page: Path, tmp_path: Path, loaded: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown_outputs.make_folder(tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "checkout")
    load = Pipeline.load

    def load_once(model: str, **named: Any) -> Pipeline:
        return loaded.setdefault(model, loaded.get(model) or load(model, **named))

    monkeypatch.setattr(Pipeline, "load", load_once)
    found = shown_outputs.outputs(page)
    assert found
    for shown in found:
        said, code = "", 0
        for line in "\n".join(shown.commands).splitlines():
            said, code = said + (one := run(line))[0], one[1]
        assert code == shown.exit_code, shown.commands
        assert shown_outputs.same(shown.text, said), (
            f"{page.name} is stale (`make outputs`): {shown.commands[-1]}\n{said}"
        )


def run(line: str) -> tuple[str, int]:
    """What `sparsight ...` or `sparsight ... > FILE` prints, in this process, and how it ends."""
    command, _, target = line.partition(" > ")
    program, *words = shlex.split(command)
    assert program == "sparsight", line
    result = CliRunner().invoke(main, words)
    if target:
        Path(target).write_text(result.stdout)
        return "", result.exit_code
    return result.stdout, result.exit_code


@pytest.mark.parametrize("page", shown_outputs.PAGES, ids=lambda page: page.stem)
def test_every_marked_output_has_a_command(page: Path) -> None:
    shown_outputs.outputs(page)


def test_every_command_of_the_tutorial_is_run() -> None:
    assert shown_outputs.EVERY in TUTORIAL.read_text("utf-8")
    assert len(shown_outputs.outputs(TUTORIAL)) >= 6


PAGE = """{every}
<!-- run: echo hidden > file -->

```sh
make run
```

```sh
echo more >> file
```

```sh
cat file; exit 3
```

<!-- output exit=3 -->
```text
{shown}
```
"""


@pytest.mark.parametrize(
    ("every", "wanted"), [("", "hidden\n"), (shown_outputs.EVERY, "hidden\nmore\n")]
)
def test_a_stale_output_is_told_and_replaced(every: str, wanted: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(every=every, shown="old"))
    assert not render_outputs.refresh(page, check=True)
    assert "\nold\n" in page.read_text()
    render_outputs.refresh(page, check=False)
    assert f"```text\n{wanted}```" in page.read_text()
    assert render_outputs.refresh(page, check=True)


@pytest.mark.parametrize(
    ("shown", "said", "equal"),
    [
        ("A photo of a cat.", "A photo of a cat.", True),
        ("A photo of a cat.", "A photo of a dog.", False),
        ("cat 28.95  15.8 %", "cat 28.94 15.8 %", True),
        ("cat 28.95", "cat 23.0", False),
        ("1,024 done", "1,024 failed", False),
        ("#2149 cat", "#8066 cat", False),
        ("one", "one two", False),
    ],
)
def test_outputs_are_the_same_up_to_last_digits(shown: str, said: str, equal: bool) -> None:
    assert shown_outputs.same(shown, said) is equal


def test_an_output_without_a_command_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- output -->\n```text\nx\n```\n")
    with pytest.raises(AssertionError, match="without a command"):
        shown_outputs.outputs(page)


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nsparsight nonsense\n```\n<!-- output -->\n```text\nx\n```\n")
    with pytest.raises(AssertionError, match="No such command"):
        render_outputs.refresh(page, check=True)
