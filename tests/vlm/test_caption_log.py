"""The file that a stopped run continues."""

import json
from pathlib import Path

import pytest

from sparse_encoder.errors import SparsightError
from vlm.caption_log import CaptionLog
from vlm.captioning import Captioned, Recipe

RECIPE = Recipe("f" * 64, "what?")
GOOD = [Captioned(f"{i}.jpg", f"caption {i} \u00e9", {"version": 1}) for i in range(3)]
BAD = Captioned("bad.jpg", error="no photograph")


def write(path: Path, *results: Captioned, recipe: Recipe = RECIPE) -> None:
    assert list(CaptionLog(path, recipe).record(results)) == list(results)


def test_lines_hold_the_result_and_its_recipe(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", GOOD[0], BAD)
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first == {**GOOD[0].to_json(), "recipe": RECIPE.to_json()}
    assert second == {"path": "bad.jpg", "error": "no photograph", "recipe": RECIPE.to_json()}


def test_captions_are_done_and_errors_are_tried_again_but_not_said_twice(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, *GOOD, BAD)
    log = CaptionLog(path, RECIPE)
    assert log.done == {"0.jpg", "1.jpg", "2.jpg"}
    before = path.read_bytes()
    list(log.record([BAD]))
    assert path.read_bytes() == before
    list(log.record([Captioned("bad.jpg", error="another reason")]))
    assert path.read_bytes() != before


def test_each_result_is_in_the_file_before_the_next_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for n, _ in enumerate(CaptionLog(path, RECIPE).record(GOOD), 1):
        assert len(path.read_text().splitlines()) == n


def test_a_last_line_cut_at_any_byte_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, *GOOD)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        log = CaptionLog(path, RECIPE)
        assert log.done == {"0.jpg", "1.jpg"}
        list(log.record(GOOD[2:]))
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (Recipe("e" * 64, "what?"), "fingerprint"),
        (Recipe("f" * 64, "who?"), 'prompt ("what?", now "who?")'),
        (Recipe("f" * 64, "what?", max_tokens=3), "max_tokens"),
    ],
)
def test_a_file_of_another_recipe_is_refused_and_left_alone(
    tmp_path: Path, other: Recipe, word: str
) -> None:
    path = tmp_path / "out.jsonl"
    write(path, *GOOD)
    before = path.read_bytes()
    with pytest.raises(SparsightError) as caught:
        CaptionLog(path, other)
    assert word in caught.value.message and "--force" in caught.value.message
    assert path.read_bytes() == before
    assert CaptionLog(path, other, overwrite=True).done == set()
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xe0 a photograph",
        b"\xff\xd8\n a photograph\n",
        b"line of text",
        b"{}\n",
        b"[1]\n",
        b"3\n",
        b'{"path": "a", "caption": "b"}\n',
        b'{"path": "a", "recipe": {}}\n',
        b"\n",
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(SparsightError, match="no file of captions"):
        CaptionLog(path, RECIPE)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "out.jsonl"):
        with pytest.raises(SparsightError, match="cannot be used for captions"):
            CaptionLog(path, RECIPE)
