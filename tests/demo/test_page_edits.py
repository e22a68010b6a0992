"""Editing on the page, in a browser, over tiny random weights: sliders, search, region, second photo."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from sparse_encoder.errors import SparsightError
from tests.tiny_model import png
from vlm.corruption import is_repetitive
from vlm.shorthand import parse_shorthand, write_shorthand

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Visit = Callable[..., Any]


def sent(page: Any) -> Any:
    """The `steering` object that the page would send, as its own code has it; null for none."""
    return page.evaluate("import('/demo/page/state.js').then(({steering}) => steering())")


def steered(page: Any) -> str:
    """The steered caption once it is whole."""
    page.wait_for_selector("#steered:not(.growing):not(.stale) .word")
    return str(page.locator("#steered").inner_text())


def plain(page: Any) -> str:
    page.wait_for_selector("#unsteered:not(.growing):not(.stale) .word")
    return str(page.locator("#unsteered").inner_text())


def add(page: Any, text: str) -> None:
    page.get_by_role("combobox", name="Add a concept").fill(text)
    page.get_by_role("combobox", name="Add a concept").press("Enter")


def test_a_first_visit_shows_a_photograph_its_features_and_its_caption(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    assert plain(page)
    rows = page.get_by_role("list", name="Strongest features").get_by_role("listitem")
    assert rows.count() == 8
    row = rows.first.inner_text()
    assert "%" in row and "#" in row
    assert rows.first.get_by_role("slider").get_attribute("aria-label").endswith("in p99")
    page.get_by_role("button", name="Show more").click()
    assert rows.count() == 16
    assert sent(page) is None and page.locator("#steered .word").count() == 0


def test_a_slider_that_is_moved_is_an_edit_and_one_that_is_put_back_is_none(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    slider = page.get_by_role("list", name="Strongest features").get_by_role("slider").first
    slider.focus()
    slider.press("ArrowRight")
    steered(page)
    edit = sent(page)["edits"][0]
    assert edit["op"] == "clamp" and edit["value"] == pytest.approx(float(slider.input_value()))
    assert page.get_by_text("Receipt: 1 features edited").is_visible()
    slider.press("ArrowLeft")
    assert sent(page) is None
    slider.press("Home")
    assert sent(page)["edits"] == [{"feature": edit["feature"], "op": "ablate"}]
    page.get_by_role("button", name="back").first.click()
    assert sent(page) is None
    page.wait_for_selector("#steered .word", state="detached")


def test_a_concept_gets_a_slider_and_goes_again(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    add(page, "  dog ")
    assert sent(page)["edits"] == [{"concept": "dog", "op": "clamp", "value": 1}]
    steered(page)
    slider = page.get_by_role("slider", name="dog, dose in p99")
    slider.fill("2.5")
    assert sent(page)["edits"][0]["value"] == 2.5
    slider.press("Home")
    assert sent(page)["edits"] == [{"concept": "dog", "op": "ablate"}]
    page.get_by_role("button", name="Remove dog").click()
    assert sent(page) is None


def test_features_that_answer_to_a_word_are_offered_and_taken_with_the_keyboard(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    box = page.get_by_role("combobox", name="Add a concept")
    box.press_sequentially("cat")
    page.wait_for_selector("#offers li:nth-child(2)")
    assert box.get_attribute("aria-expanded") == "true"
    for _ in range(2):
        box.press("ArrowDown")
    assert box.get_attribute("aria-activedescendant") == "offer-1"
    box.press("Enter")
    assert "feature" in sent(page)["edits"][0]
    box.press_sequentially("dog")
    page.wait_for_selector("#offers li")
    box.press("Escape")
    assert page.locator("#offers").is_hidden()


REFUSED = [
    ("unicornzz", "no concept named 'unicornzz'"),
    ("#9999=1", "outside 0..63"),
    ("dog=99", "8 p99"),
    ("dog=", "no number follows"),
    ("=1", "nothing stands before"),
]


def test_what_is_refused_is_said_in_the_words_of_the_gateway(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    for typed, words in REFUSED:
        add(page, typed)
        page.wait_for_selector(f".message:not([hidden]):has-text({json.dumps(words)})")
        page.get_by_role("button", name="Close the message").click()
        assert page.get_by_role("alert").count() == 0
        if sent(page):
            page.get_by_role("button", name="Undo all edits").click()


def test_a_dragged_region_limits_edits_until_it_is_removed(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    add(page, "dog")
    frame = page.locator(".stage").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]

    page.mouse.move(*at(0.25, 0.25))
    page.mouse.down()
    page.mouse.move(*at(0.75, 0.5), steps=4)
    page.mouse.up()
    region = sent(page)["edits"][0]["region"]
    assert region == pytest.approx([0.25, 0.25, 0.75, 0.5], abs=0.01)
    steered(page)
    chip = page.get_by_role("button", name="in the region")
    assert chip.get_attribute("aria-pressed") == "true"
    chip.click()
    assert "region" not in sent(page)["edits"][0]
    chip.click()
    page.get_by_role("button", name="Remove the region").click()
    assert "region" not in sent(page)["edits"][0] and chip.count() == 0


def test_a_region_can_be_drawn_with_the_keyboard(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    add(page, "dog")
    page.locator(".stage").focus()
    page.keyboard.press("Enter")
    assert sent(page)["edits"][0]["region"] == [0.25, 0.25, 0.75, 0.75]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    assert sent(page)["edits"][0]["region"] == pytest.approx([0.21, 0.25, 0.71, 0.79])
    page.keyboard.press("Delete")
    assert "region" not in sent(page)["edits"][0]


def test_a_heat_map_stays_once_it_is_chosen_and_goes_with_a_second_click(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    heat = page.locator("canvas.heat")
    where = page.get_by_role("button", name="Show where").first
    where.click()
    page.wait_for_function("document.querySelector('canvas.heat').style.opacity === '1'")
    assert "the model sees" in page.locator(".where").inner_text().lower()
    page.get_by_role("heading", name="Sparsight").hover()
    assert heat.evaluate("one => one.style.opacity") == "1"
    where.click()
    page.get_by_role("heading", name="Sparsight").hover()
    page.wait_for_function("document.querySelector('canvas.heat').style.opacity === '0'")


def test_a_heat_map_of_the_row_under_the_cursor_goes_when_the_cursor_leaves(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    row = page.get_by_role("list", name="Strongest features").get_by_role("listitem").nth(2)
    assert page.locator("canvas.heat").evaluate("one => one.style.opacity") == "0"
    with page.expect_request("**/v1/features/locate") as asked:
        row.locator("strong").hover()
    feature = asked.value.post_data_json["feature"]
    assert f", feature {feature}, " in row.get_by_role("slider").get_attribute("aria-label")
    page.wait_for_function("document.querySelector('canvas.heat').style.opacity === '1'")
    assert row.locator("strong").inner_text() in page.locator(".where").inner_text()
    page.get_by_role("heading", name="Sparsight").hover()
    page.wait_for_function("document.querySelector('canvas.heat').style.opacity === '0'")
    assert page.locator(".where").inner_text() == ""


def test_a_second_photograph_is_mixed_in_and_taken_out(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    page.get_by_role("button", name="Mix with a second photograph").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Example: a cup of coffee").click()
    assert dialog.count() == 0
    page.get_by_role("slider", name="How many features").fill("3")
    page.wait_for_selector("text=second photograph")
    taken = sent(page)["steer_from"]
    assert taken["top"] == 3 and taken["image_url"]["url"].startswith("data:image/jpeg;base64,")
    page.get_by_role("button", name="Remove the second photograph").click()
    assert sent(page) is None


def test_undo_takes_every_edit_away(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    add(page, "dog=0, cat=1@0,0,0.5,1; #3*1.5")
    assert sent(page)["edits"] == [
        {"concept": "dog", "op": "ablate"},
        {"concept": "cat", "op": "clamp", "value": 1, "region": [0, 0, 0.5, 1]},
        {"feature": 3, "op": "scale", "value": 1.5},
    ]
    page.get_by_role("button", name="Undo all edits").click()
    assert sent(page) is None and page.get_by_role("list", name="Your edits").count() == 0


def test_an_answer_that_is_no_longer_wanted_is_let_go(visit: Visit, tiny_page: str) -> None:
    """While a slider runs, one request is open at most, and the caption is of its last place."""
    page = visit(tiny_page)
    bodies: list[str] = []
    page.on(
        "request", lambda one: bodies.append(one.post_data or "") if "chat" in one.url else None
    )
    plain(page)
    add(page, "dog")
    slider = page.get_by_role("slider", name="dog, dose in p99")
    slider.evaluate("""async one => {
        for (const value of [0.5, 1.5, 2, 2.5, 3]) {
            one.value = value;
            one.dispatchEvent(new Event("input"));
            await new Promise(resolve => setTimeout(resolve, 5));
        }
    }""")
    page.wait_for_timeout(200)
    steered(page)
    assert len(bodies) <= 3, "five places of a moving slider asked for more than two captions"
    assert json.loads(bodies[-1])["steering"]["edits"][0]["value"] == 3


TYPED = [
    "dog=0", "cat=1", "cat=1.2raw", "cat*1.5", "cat+0.4", "#812=1", "hot dog=1@0,0,0.5,1", "# 7=2e-1",
    "cat=1.5 P99", "cat", "=1", "#x=1", "cat=", "cat=a", "cat*2raw", "cat=1@0,0", "cat=1@a,b,c,d",
]  # fmt: skip


def test_shorthand_means_the_same_here_and_on_the_command_line(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    script = """text => import('/demo/page/shorthand.js').then(({parseShorthand, writeShorthand}) => {
        try { const edit = parseShorthand(text); return [edit, writeShorthand(edit)]; }
        catch (error) { return null; } })"""
    for text in TYPED:
        try:
            edit = parse_shorthand(text)
            theirs: Any = [edit, write_shorthand(edit)]
        except SparsightError:
            theirs = None
        assert page.evaluate(script, text) == theirs, text


SAID = [
    "a dog in the snow", "a a a a", "a dog a dog a dog", "the dog and the dog and the dog", "", "...",
    "red red red", "a man in a red hat and a man in a red coat and a man in a red hat and a man",
]  # fmt: skip


def test_a_caption_looks_broken_here_where_the_evaluation_has_it_repeating(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    script = "text => import('/demo/page/words.js').then(({broken}) => broken(text, 'stop'))"
    for text in SAID:
        found = page.evaluate(script, text)
        assert bool(found) == (is_repetitive(text) or not any(map(str.isalpha, text))), text
    assert "cut off" in page.evaluate(script.replace("'stop'", "'length'"), "a dog")


def test_two_users_at_once_have_edits_and_photographs_of_their_own(
    visit: Visit, tiny_page: str
) -> None:
    one, other = visit(tiny_page), visit(tiny_page)
    add(one, "dog")
    file = {"name": "mine.png", "mimeType": "image/png", "buffer": png(5)}
    other.get_by_label("Upload a photograph").set_input_files(file)
    other.wait_for_selector("img[alt='Photograph mine.png']")
    add(other, "cat=0")
    assert sent(one)["edits"][0]["concept"] == "dog"
    assert sent(other)["edits"] == [{"concept": "cat", "op": "ablate"}]
    assert one.locator(".stage img").get_attribute("alt") == "Photograph chelsea.jpg"
    uri = other.evaluate("import('/demo/page/state.js').then(({state}) => state.photo.uri)")
    assert base64.b64decode(uri.split(",")[1]) == png(5)  # the file's own bytes
    assert steered(one) and steered(other)
