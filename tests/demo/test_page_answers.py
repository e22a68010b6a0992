"""What the page says of a steered caption, over tiny random weights: marks, first word, warnings."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Visit = Callable[..., Any]
WHOLE = ":not(.growing):not(.stale) .word"

ANSWERS = "import('/demo/page/generation.js').then(({answers}) => answers)"


@pytest.fixture
def page(visit: Visit, tiny_page: str) -> Any:
    """The page with a whole unsteered caption: a changed word is one that differs from it."""
    page = visit(tiny_page)
    page.wait_for_selector(f"#unsteered{WHOLE}")
    return page


def steer(page: Any, text: str) -> Any:
    """Adds an edit; the whole steered answer as the page has it."""
    page.get_by_role("combobox", name="Add a concept").fill(text)
    page.get_by_role("combobox", name="Add a concept").press("Enter")
    page.wait_for_selector(f"#steered{WHOLE}")
    return page.evaluate(ANSWERS)["steered"]


def undo(page: Any) -> None:
    page.get_by_role("button", name="Undo all edits").click()
    page.wait_for_selector("#steered .word", state="detached")


# Two captions and the words of each, 1 where the other lacks it.
PAIRS = [
    ("a dog in the snow", "a cat in the snow", "01000", "01000"),
    ("A dog, (in snow).", "a DOG in “snow”", "0000", "0000"),
    ("a red dog", "a dog", "010", "00"),
    ("", "a dog", "", "11"),
    # A word that comes late in the other text may not cost the three that both share.
    ("now a red dog", "a red dog now", "1000", "0001"),
    ("a dog and a dog", "a dog", "00111", "00"),
]


def test_the_words_that_differ_are_those_outside_the_longest_common_run(page: Any) -> None:
    script = "pair => import('/demo/page/words.js').then(({differing}) => differing(...pair))"
    for one, other, lost, won in PAIRS:
        for pair, marks in (((one, other), (lost, won)), ((other, one), (won, lost))):
            found = page.evaluate(script, pair)
            assert tuple("".join(str(int(x)) for x in each) for each in found) == marks, pair


def test_an_edit_that_changes_the_caption_tells_when_its_first_changed_word_came(page: Any) -> None:
    root = page.locator("#sparsight")
    assert root.get_attribute("data-first-word-ms") is None
    began = time.monotonic()
    steer(page, "dog=3")
    page.wait_for_selector(".speed:has-text('first changed word after')")
    took = 1000 * (time.monotonic() - began)
    first = int(root.get_attribute("data-first-word-ms"))
    assert 0 < first <= took + 1
    said = re.fullmatch(
        r"first changed word after (\d+\.\d\d) s", page.locator(".speed").inner_text()
    )
    # The attribute is read off the clock after the line, which has hundredths of a second.
    assert said is not None and 0 < 1000 * float(said[1]) <= first + 6
    assert page.locator("#steered ins").count() and page.locator("#unsteered del").count()
    undo(page)
    assert page.locator(".speed").inner_text() == ""


def test_an_edit_that_changes_no_word_says_so_and_has_no_first_changed_word(page: Any) -> None:
    steer(page, "#3*1")
    assert page.locator("#steered").inner_text() == page.locator("#unsteered").inner_text()
    assert page.locator(".warnings").get_by_text("The words stayed the same").is_visible()
    assert page.locator("#steered ins").count() == 0
    assert page.locator(".speed").inner_text() == ""
    assert page.locator("#sparsight").get_attribute("data-first-word-ms") is None


def test_a_dose_beyond_the_reference_images_is_warned_of_until_it_is_undone(page: Any) -> None:
    warned = page.locator(".warnings .warning").filter(has_not_text="This caption looks broken")
    assert steer(page, "dog=1")["receipt"]["warnings"] == []
    assert warned.count() == 0
    undo(page)
    receipt = steer(page, "#3=8")["receipt"]
    assert [warned.inner_text()] == receipt["warnings"]
    assert "feature 3 goes to" in warned.inner_text() and "above" in warned.inner_text()
    undo(page)
    assert page.locator(".warnings .warning").count() == 0


def test_many_warnings_fold_into_one_line_that_opens(page: Any) -> None:
    warnings = steer(page, "dog=8")["receipt"]["warnings"]
    folded = page.locator(".warnings details.warning")
    assert len(warnings) > 1
    assert folded.locator("summary").inner_text().startswith(f"{len(warnings)} warnings: ")
    assert not folded.get_by_role("listitem").first.is_visible()
    folded.locator("summary").click()
    assert folded.get_by_role("listitem").all_inner_texts() == warnings
