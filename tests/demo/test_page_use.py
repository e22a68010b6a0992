"""The rest of the page in a browser: why a word, sweep, atlas, photographs good and bad, a gateway that goes."""

import base64
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from demo.page import mount
from serving.launch import bind
from serving.relay import create_relay
from tests.tiny_model import png, tiny_pipeline

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Visit = Callable[..., Any]
Serve = Callable[..., AbstractContextManager[str]]
WHOLE = ":not(.growing):not(.stale) .word"

# Every control that a screen reader would come to without a name, and pictures without an alt.
NAMELESS = """[...document.querySelectorAll('#sparsight :is(button, a, input, summary, [role], img)')]
    .filter(one => one.tagName === 'IMG' ? !one.hasAttribute('alt')
        : !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.textContent.trim()
            || (one.id && document.querySelector(`label[for="${one.id}"]`)) || one.closest('label'))
          && !['alert', 'status', 'listbox'].includes(one.getAttribute('role')))
    .map(one => one.outerHTML.slice(0, 120))"""


def add(page: Any, text: str) -> None:
    page.get_by_role("combobox", name="Add a concept").fill(text)
    page.get_by_role("combobox", name="Add a concept").press("Enter")


def alert_with(page: Any, words: str) -> None:
    page.wait_for_selector(f".message:not([hidden]):has-text({json.dumps(words)})")


def test_a_word_that_is_clicked_shows_the_features_that_made_it(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    page.wait_for_selector(f"#unsteered{WHOLE}")
    words = page.locator("#unsteered .word").all_inner_texts()
    at = next(i for i, word in enumerate(words) if any(map(str.isalnum, word)))
    page.locator("#unsteered .word").nth(at).click()
    page.wait_for_selector(".why .cause, .why .warning")
    causes = page.locator(".why button.cause")
    if (
        causes.count()
    ):  # random weights may say what is no word; then the gateway's words stand there
        causes.first.click()
        page.wait_for_function("document.querySelector('canvas.heat').style.opacity === '1'")
    page.keyboard.press("Escape")
    assert page.locator(".why").is_hidden()


def test_a_sweep_is_a_plot_with_captions_and_a_dose_can_be_used(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    page.get_by_role("textbox", name="Concept of the sweep").fill("zzyzx")
    page.get_by_role("button", name="Sweep", exact=True).click()
    alert_with(page, "no concept named 'zzyzx'")
    page.get_by_role("textbox", name="Concept of the sweep").fill("cat")
    page.get_by_role("button", name="Sweep", exact=True).click()
    page.wait_for_selector(".plot")
    assert page.locator(".plot .point").count() == 9
    page.locator(".plot .point").last.focus()
    assert page.locator(".sweep .caption").inner_text().startswith("8 p99")
    page.get_by_role("button", name="Use cat at 0.5 p99").click()
    assert page.get_by_role("slider", name="cat, dose in p99").input_value() == "0.5"


def test_the_atlas_is_searched_browsed_opened_and_its_feature_becomes_an_edit(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    page.get_by_role("link", name="Atlas").click()
    cards = page.locator(".cards a")
    cards.nth(23).wait_for()
    page.get_by_role("button", name="Show more").last.click()
    cards.nth(24).wait_for()
    page.get_by_role("searchbox", name="Search features").fill("dog")
    page.wait_for_selector("text=answer to “dog”")
    cards.first.click()
    page.wait_for_selector(".opened:not([hidden]) h2")
    index = int(page.url.rsplit("/", 1)[1])
    assert f"#{index}" in page.locator(".opened").inner_text()
    page.locator(".opened .chips a").first.click()
    page.wait_for_function("index => !location.hash.endsWith('/' + index)", arg=index)
    page.go_back()
    page.wait_for_selector(f".opened:has-text('#{index}')")
    page.get_by_role("button", name="Use as an edit").click()
    page.wait_for_selector(f"#steered{WHOLE}")
    assert f'"feature":{index}' in page.locator(".snippet").inner_text()
    nothing = visit(f"{tiny_page}/demo/#atlas/99999")
    assert "99999" in nothing.locator(".opened .warning").inner_text()


BAD_PHOTOS = [
    ("notes.jpg", "image/jpeg", b"this is no photograph", "are none of JPEG, PNG"),
    ("empty.png", "image/png", b"", "the image is empty (0 bytes)"),
    ("half.png", "image/png", png(1, (300, 300))[:200], "is truncated or damaged"),
    ("large.jpg", "image/jpeg", b"\xff\xd8" + bytes(20_500_000), "20.5 MB, at most 20 are"),
]


def test_a_bad_file_is_refused_in_words_and_the_page_goes_on(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    for name, kind, content, words in BAD_PHOTOS:
        page.get_by_label("Upload a photograph").set_input_files(
            {"name": name, "mimeType": kind, "buffer": content}
        )
        alert_with(page, words)
        assert "Traceback" not in page.get_by_role("alert").inner_text()
        page.get_by_role("button", name="Close the message").click()
    page.get_by_role("button", name="Example: a rocket").last.click()
    page.wait_for_selector("img[alt='Photograph rocket.jpg']")
    page.wait_for_selector(f"#unsteered{WHOLE}")
    assert page.get_by_role("alert").count() == 0


TRANSFER = """([event, target, bytes]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], event + '.png', {type: 'image/png'}));
    const kind = event === 'paste' ? ClipboardEvent : DragEvent;
    const field = event === 'paste' ? 'clipboardData' : 'dataTransfer';
    document.querySelector(target).dispatchEvent(new kind(event, {[field]: data, bubbles: true, cancelable: true}));
}"""


def test_photographs_come_by_paste_by_drop_and_by_camera(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    content = base64.b64encode(png(2)).decode()
    for event, target in (("paste", "body"), ("drop", ".stage")):
        page.evaluate(TRANSFER, [event, target, content])
        page.wait_for_selector(f"img[alt='Photograph {event}.png']")
    page.get_by_role("button", name="Take a photograph with the camera").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0")
    page.get_by_role("button", name="Take the picture").click()
    page.wait_for_selector("img[alt='Photograph camera.jpg']")
    page.evaluate("navigator.clipboard.writeText('words')")
    page.get_by_role("button", name="Paste a photograph").click()
    alert_with(page, "no picture on the clipboard")


def test_a_gateway_that_goes_and_comes_back_is_noticed_and_asked_again(
    visit: Visit, serve_page: Serve
) -> None:
    probe = bind("127.0.0.1", 0)
    port = probe.getsockname()[1]
    probe.close()
    with serve_page(tiny_pipeline(), port) as url:
        page = visit(url)
        page.wait_for_selector(f"#unsteered{WHOLE}")
    add(page, "dog")
    alert_with(page, "no answer from")
    assert "sparsight serve" in page.get_by_role("alert").inner_text()
    assert page.locator("#steered .word").count() == 0
    with serve_page(tiny_pipeline(), port):
        page.wait_for_selector(f"#steered{WHOLE}")
        assert page.get_by_role("alert").count() == 0


def test_the_page_alone_shows_what_a_gateway_elsewhere_says(
    visit: Visit, serve_app: Serve, serve_page: Serve
) -> None:
    with serve_page(tiny_pipeline()) as gateway:
        relay = create_relay(gateway)
        with serve_app(mount(relay, "")) as url:
            page = visit(url)
            page.wait_for_selector(f"#unsteered{WHOLE}")
            add(page, "dog")
            page.wait_for_selector(f"#steered{WHOLE}")
            assert page.get_by_text("Receipt: ").is_visible()
            page.get_by_role("button", name="curl", exact=True).click()
            assert url in page.locator(".snippet").inner_text()


def test_on_a_telephone_nothing_is_cut_off_in_light_or_dark(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page, viewport={"width": 360, "height": 740}, color_scheme="dark")
    add(page, "dog")
    page.wait_for_selector(f"#steered{WHOLE}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Light or dark").click()
    light = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.wait_for_selector("#sparsight[data-ready]")
    assert page.evaluate(ground) == light  # it is remembered


def test_every_control_has_a_name(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    add(page, "dog")
    page.get_by_role("button", name="Sweep", exact=True).click()
    page.wait_for_selector(".plot")
    page.wait_for_selector(f"#steered{WHOLE}")
    assert page.evaluate(NAMELESS) == []
    page.get_by_role("link", name="Atlas").click()
    page.locator(".cards a").first.click()
    page.wait_for_selector(".opened:not([hidden]) h2")
    assert page.evaluate(NAMELESS) == []


def test_all_that_the_mouse_does_can_be_done_by_keys(visit: Visit, tiny_page: str) -> None:
    """From the top by Tab alone: each stop can be seen, and all kinds of control are met."""
    page = visit(tiny_page)
    page.wait_for_selector(f"#unsteered{WHOLE}")
    page.wait_for_selector(".row .where-button")
    met = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        met.add(
            page.evaluate("""() => { const one = document.activeElement; return [
            one.className.toString().split(' ')[0], one.id, one.type, one.tagName].filter(Boolean)[0] }""")
        )
    assert {
        "story",
        "stage",
        "thumb",
        "quiet",
        "icon",
        "add-concept",
        "range",
        "word",
        "snippet",
    } <= met
