"""README and tutorial show what their commands print, with the model in the box."""

from pathlib import Path

import pytest
import render_outputs
import shown_outputs

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "first-steered-caption.md"


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("page", [ROOT / "README.md", TUTORIAL], ids=lambda page: page.stem)
def test_a_page_shows_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    environment = shown_outputs.make_folder(tmp_path / "checkout")
    found = shown_outputs.outputs(page)
    assert found
    for shown in found:
        said = shown_outputs.printed(shown, tmp_path / "checkout", environment)
        assert shown_outputs.same(shown.text, said), (
            f"{page.name} is stale (`make outputs`): {shown.commands[-1]}\n{said}"
        )


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
