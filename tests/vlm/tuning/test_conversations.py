"""Conversation files: both layouts are read alike, and what cannot be trained on is named."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sparse_encoder.errors import SparsightError
from tests.tiny_model import png
from vlm.template import ImagePart, TextPart
from vlm.tuning.conversations import read_conversations


def turn(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


ASK, SAY = turn("human", "<image>\nWhat is it?"), turn("gpt", "A dog.")
GOOD = {"id": "good", "image": "a.png", "conversations": [ASK, SAY]}


def write(folder: Path, items: list[Any]) -> Path:
    (folder / "a.png").write_bytes(png(1))
    path = folder / "talks.json"
    path.write_text(json.dumps(items))
    return path


def test_lists_lines_and_both_layouts_are_read_alike(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "<image>\nWhat is it?"},
        {"role": "assistant", "content": "A dog."},
    ]
    other = {"id": "good", "images": ["a.png"], "messages": messages}
    one = read_conversations([write(tmp_path, [GOOD, other])], None)
    lines = tmp_path / "talks.jsonl"
    lines.write_text("\n".join(json.dumps(item) for item in (GOOD, other)) + "\n\n")
    two = read_conversations([lines], tmp_path)
    assert [c.turns for c in (*one, *two)] == [one[0].turns] * 4
    assert {c.images for c in (*one, *two)} == {(str(tmp_path / "a.png"),)}


def test_placeholders_become_images_and_the_text_around_them_is_trimmed(tmp_path: Path) -> None:
    item = {
        "image": ["a.png", "a.png"],
        "conversations": [
            turn("system", "Be brief."),
            turn("human", "<image>\n<image> Same?"),
            turn("gpt", " Yes. "),
            turn("human", "Sure?"),
            turn("gpt", "Yes."),
        ],
    }
    messages = read_conversations([write(tmp_path, [item])], None)[0].messages()
    assert [m.role for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [type(p) for p in messages[1].parts] == [ImagePart, ImagePart, TextPart]
    assert messages[1].parts[2] == TextPart("Same?")
    assert messages[2].parts == (TextPart("Yes."),)


@pytest.mark.parametrize(
    ("item", "word"),
    [
        ("text", "is a str, expected an object"),
        ({"id": 7}, r"item 2 \(id 7\) has no turns"),
        ({"conversations": []}, "has no turns"),
        ({"conversations": ["hi"]}, "a turn is hi"),
        ({"conversations": [turn("bot", "hi")]}, "expected from"),
        ({"conversations": [{"from": "human", "value": 3}]}, "both text"),
        ({"conversations": [turn("human", "Hi.")]}, "no answer, so there is no token"),
        ({"conversations": [turn("human", "Hi."), turn("gpt", "  ")]}, "an answer is empty"),
        ({"conversations": [SAY, turn("human", "Hi.")]}, r"out of order \(assistant, user\)"),
        ({"conversations": [turn("human", "a"), turn("human", "b"), SAY]}, "out of order"),
        ({"conversations": [turn("human", "a"), SAY, turn("system", "b"), SAY]}, "out of order"),
        ({"conversations": [turn("human", "a"), SAY, turn("human", "b")]}, "assistant last"),
        ({"conversations": [ASK, SAY]}, "1 <image> for 0 images"),
        ({"image": "a.png", "conversations": [turn("human", "Hi."), SAY]}, "0 <image> for 1"),
        ({"image": ["a.png", "a.png"], "conversations": [ASK, SAY]}, "1 <image> for 2"),
        ({"image": "no.png", "conversations": [ASK, SAY]}, "no.png does not exist"),
        ({"image": 3, "conversations": [ASK, SAY]}, "expected a path"),
        (
            {"image": "a.png", "conversations": [turn("human", "a"), turn("gpt", "<image>")]},
            "in a turn of the assistant",
        ),
    ],
)
def test_a_bad_item_is_refused_by_file_and_number(tmp_path: Path, item: Any, word: str) -> None:
    path = write(tmp_path, [GOOD, item])
    with pytest.raises(SparsightError, match=word) as refused:
        read_conversations([path], None)
    assert "1 of 2 conversations" in refused.value.message
    assert f"{path}, item 2" in refused.value.message
    assert len(read_conversations([path], None, skip_bad=True)) == 1


def test_many_bad_items_are_counted_and_the_first_are_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, [GOOD, *[{"id": n} for n in range(9)]])
    with pytest.raises(SparsightError, match="9 of 10 conversations") as refused:
        read_conversations([path], None)
    assert "and 4 more" in refused.value.message
    with caplog.at_level(logging.WARNING):
        read_conversations([path], None, skip_bad=True)
    assert "left out: 9 of 10" in caplog.text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "line 1 is no JSON"),
        ("[1,", "cannot be read"),
        ("", "no conversation in"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, text: str | bytes, word: str) -> None:
    path = tmp_path / "talks.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SparsightError, match=word):
        read_conversations([path], None)
    with pytest.raises(SparsightError, match="cannot be read"):
        read_conversations([tmp_path / "none.json"], None)
