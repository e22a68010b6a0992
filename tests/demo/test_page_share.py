"""What leaves the page and comes back: links, files, recipes, and code that runs elsewhere."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import png
from vlm.pipeline import Pipeline

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Visit = Callable[..., Any]
SNAPSHOT = """import('/demo/page/state.js').then(({state, steering}) => ({
    steering: steering(), prompt: state.prompt, seed: state.seed, temperature: state.temperature,
    photo: state.photo?.name, region: state.region }))"""


def add(page: Any, text: str) -> None:
    page.get_by_role("combobox", name="Add a concept").fill(text)
    page.get_by_role("combobox", name="Add a concept").press("Enter")


def prepare(page: Any) -> None:
    """A photograph, edits, a region, a question and a seed other than those of a first visit."""
    page.get_by_role("button", name="Example: a cup of coffee").last.click()
    page.wait_for_selector("img[alt='Photograph coffee.jpg']")
    add(page, "dog=0, cat=1.5@0,0,0.5,1")
    page.get_by_text("Prompt and sampling").click()
    page.get_by_role("textbox", name="Prompt").fill("What is “that”?")
    page.get_by_label("Temperature").fill("0.7")
    page.get_by_label("Seed").fill("11")
    page.get_by_label("Seed").press("Tab")
    page.locator(".stage").focus()
    page.keyboard.press("Enter")


def upload(page: Any, name: str, content: bytes) -> None:
    file = {"name": name, "mimeType": "image/png", "buffer": content}
    page.get_by_label("Upload a photograph").set_input_files(file)
    page.wait_for_function(
        "name => document.querySelector('.stage img').alt.endsWith(name)", arg=name
    )


def open_file(page: Any, name: str, content: bytes) -> None:
    file = {"name": name, "mimeType": "application/json", "buffer": content}
    page.get_by_label("Open a saved file or recipe").set_input_files(file)


def saved(page: Any, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes()


def test_a_link_brings_photograph_edits_and_seed_back_to_another_user(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    prepare(page)
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_selector(".toast")
    link = page.evaluate("navigator.clipboard.readText()")
    other = visit(link)
    there, here = other.evaluate(SNAPSHOT), page.evaluate(SNAPSHOT)
    assert there == here
    assert (there["photo"], there["seed"], there["prompt"]) == ("coffee.jpg", 11, "What is “that”?")
    other.wait_for_selector("#steered:not(.growing):not(.stale) .word")
    page.wait_for_selector("#steered:not(.growing):not(.stale) .word")
    assert other.locator("#steered").inner_text() == page.locator("#steered").inner_text()


def test_a_link_to_somebodys_own_photograph_says_that_it_is_needed(
    visit: Visit, tiny_page: str
) -> None:
    page = visit(tiny_page)
    upload(page, "mine.png", png(3))
    add(page, "dog=0")
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_selector(".toast")
    other = visit(page.url)
    assert "mine.png, which only its owner has" in other.get_by_role("alert").inner_text()
    assert other.evaluate(SNAPSHOT)["steering"] == page.evaluate(SNAPSHOT)["steering"]


def test_a_file_has_the_photograph_inside(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    upload(page, "mine.png", png(3))
    add(page, "dog=0")
    file = saved(page, "Save as a file")
    other = visit(tiny_page)
    open_file(other, "sparsight.json", file)
    other.wait_for_selector("img[alt='Photograph mine.png']")
    other.wait_for_selector("#steered .word")
    assert other.evaluate(SNAPSHOT) == page.evaluate(SNAPSHOT)
    script = "import('/demo/page/state.js').then(({state}) => state.photo.sha256)"
    assert other.evaluate(script) == page.evaluate(script)


def test_a_recipe_is_saved_loaded_sent_and_removed(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    page.get_by_role("button", name="Save the edits as a recipe").click()
    assert "no edits to save" in page.get_by_role("alert").inner_text()
    add(page, "dog=0, cat=1")
    page.get_by_role("textbox", name="Name of the recipe").fill("Dog to cat")
    recipe = saved(page, "Save the edits as a recipe")
    assert json.loads(recipe)["name"] == "Dog to cat" and len(json.loads(recipe)["edits"]) == 2
    other = visit(tiny_page)
    open_file(other, "dog-to-cat.json", recipe)
    other.wait_for_selector("#steered:not(.growing) .word")
    assert other.evaluate(SNAPSHOT)["steering"] == {"recipe": json.loads(recipe)}
    other.get_by_role("button", name="Remove the recipe").click()
    assert other.evaluate(SNAPSHOT)["steering"] is None
    foreign = {**json.loads(recipe), "fingerprint": "e" * 64}
    open_file(other, "foreign.json", json.dumps(foreign).encode())
    other.wait_for_selector(".message:has-text('was made for model eeee')")
    other.get_by_label("made for another model").check()
    other.wait_for_selector("#steered:not(.growing):not(.stale) .word")


BAD_FILES = [
    (b"{", "no JSON"),
    (b"[]", "no recipe"),
    (b"null", "no recipe"),
    (b'{"sparsight": 9}', "version 9"),
    (b'{"sparsight": 1, "edits": [null]}', "no list of edits"),
    (b'{"sparsight": 1, "edits": [{"edit": {"op": "ablate", "concept": "zzyzx"}}]}', "zzyzx"),
]


def test_what_is_no_file_of_ours_is_refused(visit: Visit, tiny_page: str) -> None:
    page = visit(tiny_page)
    for content, words in BAD_FILES:
        open_file(page, "a.json", content)
        page.wait_for_selector(f".message:not([hidden]):has-text('{words}')")
    broken = visit(f"{tiny_page}/demo/#s=%%%")
    assert "the link is not whole" in broken.get_by_role("alert").inner_text()


def settled(page: Any) -> list[str]:
    """Words of the steered caption, once neither it nor what is asked for changes any more."""
    while True:
        page.wait_for_selector("#steered:not(.growing):not(.stale) .word")
        seen = page.evaluate(SNAPSHOT), page.locator("#steered").inner_text()
        page.wait_for_timeout(1500)
        page.wait_for_selector("#steered:not(.growing):not(.stale) .word")
        if seen == (page.evaluate(SNAPSHOT), page.locator("#steered").inner_text()):
            return str(seen[1]).split()


def run_snippet(page: Any, kind: str, folder: Path) -> str:
    """What the code prints that the page shows for `kind`, run in an empty folder."""
    page.get_by_role("button", name=kind, exact=True).click()
    code = page.locator(".snippet").inner_text()
    folder.mkdir()
    bin_ = folder / "bin"
    bin_.mkdir()
    program = bin_ / "sparsight"  # the command of this very checkout
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m serving.cli.main "$@"\n')
    program.chmod(0o755)
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": root}
    command = [sys.executable, "-c", code] if kind == "Python" else ["bash", "-euc", code]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["curl", "Python"])
def test_code_that_is_copied_runs_and_gives_the_answer_of_the_page(
    visit: Visit, tiny_page: str, tmp_path: Path, kind: str
) -> None:
    page = visit(tiny_page)
    prepare(page)
    shown = settled(page)
    said = run_snippet(page, kind, tmp_path / kind)
    if kind == "curl":
        answer = json.loads(said)
        assert answer["steering"]["receipt"]["steering"]["edits"]
        said = answer["choices"][0]["message"]["content"]
    assert said.split() == shown


@pytest.fixture(scope="module")
def mini_page(serve_page: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """The shipped model, with the page."""
    with serve_page(Pipeline.load("sparsight-mini")) as url:
        yield url


@pytest.mark.model
def test_one_click_tells_each_story_and_its_command_line_runs(
    visit: Visit, mini_page: str, tmp_path: Path
) -> None:
    page = visit(mini_page)
    page.wait_for_selector(".row .mark.verified")  # the story goes by what is in the photograph
    concepts = {}
    for story, last in (("Cat to dog", "dog"), ("Hide the text", "text"), ("What if", "snow")):
        page.get_by_role("button", name=story).click()
        page.get_by_role("button", name=f"Remove {last}", exact=True).wait_for()
        page.wait_for_selector("#steered:not(.growing):not(.stale) .word")
        edits = page.evaluate(SNAPSHOT)["steering"]["edits"]
        concepts[story] = [(edit["concept"], edit["op"]) for edit in edits]
    assert concepts["Cat to dog"] == [("cat", "ablate"), ("dog", "clamp")]
    assert ("text", "ablate") in concepts["Hide the text"]
    assert concepts["What if"] == [("snow", "clamp")]
    page.get_by_role("button", name="Example: Chelsea").last.click()
    page.wait_for_selector("img[alt='Photograph chelsea.jpg']")
    page.wait_for_selector(".row .mark.verified")
    page.get_by_role("button", name="Cat to dog").click()
    page.wait_for_selector("#steered:not(.growing):not(.stale) .won")
    assert "dog" in page.locator("#steered").inner_text()
    page.get_by_role("button", name="Mix with a second photograph").click()
    page.get_by_role("dialog").get_by_role("button", name="Example: the astronaut").click()
    add(page, "cat=0")
    shown = settled(page)
    assert run_snippet(page, "CLI", tmp_path / "cli").split() == shown
    assert run_snippet(page, "Python", tmp_path / "python").split() == shown
