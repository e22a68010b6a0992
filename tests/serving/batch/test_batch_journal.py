"""The file that remembers what is done."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batch.journal import Journal
from serving.batch.plan import Plan, Steering
from serving.batch.result import Result
from serving.batch.seen import Seen
from sparse_encoder.errors import SparsightError
from vlm.edits import Edit

PLAN = Plan("f" * 64, ("what?",))


def done(name: str, content: int = 0) -> Result:
    digest = f"{content:064x}"
    outputs = {"caption": f"caption {content} \u00e9", "receipt": {"images": [{"sha256": digest}]}}
    return Result(name, outputs, sha256=digest)


GOOD = [done(f"{i}.jpg", i) for i in range(3)]
BAD = Result("bad.jpg", error="no photograph")


def write(path: Path, *results: Result, plan: Plan = PLAN) -> None:
    with Journal(path, plan) as journal:
        for result in results:
            journal.append(result)


def test_a_line_holds_the_result_and_its_recipe(tmp_path: Path) -> None:
    write(tmp_path / "o.jsonl", GOOD[0], BAD)
    first, second = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert first == {"path": "0.jpg", **GOOD[0].outputs, "recipe": PLAN.to_json()}
    assert second == {"path": "bad.jpg", "error": "no photograph", "recipe": PLAN.to_json()}


def test_a_caption_log_of_earlier_versions_goes_on_as_a_journal(tmp_path: Path) -> None:
    recipe = (
        f'{{"fingerprint": "{"f" * 64}", "prompt": "what?", "steering": {{"edits": []}}, '
        '"max_tokens": 64}'
    )
    receipt = json.dumps(GOOD[0].outputs["receipt"])
    before = (
        f'{{"path": "0.jpg", "caption": "c", "receipt": {receipt}, "recipe": {recipe}}}\n'
        f'{{"path": "x", "error": "why", "recipe": {recipe}}}\n'
    ).encode()
    (tmp_path / "o.jsonl").write_bytes(before)
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        assert (journal.n_done, journal.n_failed) == (1, 1)
        assert not journal.claim("0.jpg") and journal.claim("x")
        assert journal.find(f"{0:064x}") is not None
    assert (tmp_path / "o.jsonl").read_bytes() == before


def test_each_result_is_in_the_file_before_the_next_comes(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    with Journal(path, PLAN) as journal:
        for n, result in enumerate(GOOD, 1):
            journal.append(result)
            assert len(path.read_text().splitlines()) == n


def test_what_has_a_line_is_done_and_failures_are_tried_again_unless_skipped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "o.jsonl"
    write(path, *GOOD, BAD)
    before = path.read_bytes()
    with Journal(path, PLAN) as journal:
        assert (journal.n_done, journal.n_failed) == (3, 1)
        assert not journal.claim("0.jpg")
        assert not journal.claim("bad.jpg", retry_failed=False)
        assert journal.claim("bad.jpg") and not journal.claim("bad.jpg")
        journal.append(BAD)
        assert path.read_bytes() == before  # the same error is not said twice
        journal.append(replace(BAD, error="another reason"))
        journal.append(done("bad.jpg", 9))
        assert (journal.n_done, journal.n_failed) == (4, 0)
    with Journal(path, PLAN) as journal:
        assert (journal.n_done, journal.n_failed) == (4, 0)
        assert [each.path for each in journal.good()] == ["0.jpg", "1.jpg", "2.jpg", "bad.jpg"]


def test_equal_bytes_are_found_and_a_duplicate_is_no_original(tmp_path: Path) -> None:
    twin = replace(GOOD[0], path="twin.jpg", duplicate_of="0.jpg")
    write(tmp_path / "o.jsonl", BAD, GOOD[0], twin)
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        found = journal.find(f"{0:064x}")
        assert found == GOOD[0]
        assert journal.find(f"{7:064x}") is None
        journal.append(done("7.jpg", 7))
        assert journal.find(f"{7:064x}") == done("7.jpg", 7)


def test_a_last_line_cut_at_any_byte_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    write(path, *GOOD)
    whole = path.read_bytes()
    for cut in range(whole.rindex(b"\n", 0, -1) + 1, len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(path, PLAN) as journal:
            assert journal.n_done == 2
            journal.append(GOOD[2])
        assert path.read_bytes() == whole


OTHERS = [
    (Plan("e" * 64, ("what?",)), "fingerprint"),
    (Plan("f" * 64, ("who?",)), 'prompt ("what?", now "who?")'),
    (Plan("f" * 64, ("what?",), max_tokens=3), "max_tokens"),
    (Plan("f" * 64, ("what?",), (Steering("s", (Edit("ablate", concept="dog"),)),)), "steering"),
    (Plan("f" * 64, ("what?",), codes=True), "kind of result"),
    (Plan("f" * 64, ("what?", "who?")), "kind of result"),
]


@pytest.mark.parametrize(("other", "word"), OTHERS)
def test_a_file_of_another_recipe_is_refused_and_left_alone(
    tmp_path: Path, other: Plan, word: str
) -> None:
    path = tmp_path / "o.jsonl"
    write(path, *GOOD)
    before = path.read_bytes()
    with pytest.raises(SparsightError) as caught:
        Journal(path, other)
    assert word in caught.value.message and "--force" in caught.value.message
    assert path.read_bytes() == before
    with Journal(path, other, overwrite=True) as journal:
        assert journal.n_done == 0
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
        b'{"path": 3, "caption": "b", "recipe": {}}\n',
        b"\n",
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "o.jsonl"
    path.write_bytes(content)
    with pytest.raises(SparsightError, match="no file of captions"):
        Journal(path, PLAN)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path, tmp_path / "none" / "o.jsonl"):
        with pytest.raises(SparsightError, match="cannot be used for captions"):
            Journal(path, PLAN)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(SparsightError, match="Read-only file system"):
        Journal(tmp_path / "o.jsonl", PLAN)


def test_a_second_run_on_one_file_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    with Journal(path, PLAN), pytest.raises(SparsightError, match="another run writes"):
        Journal(path, PLAN)
    with Journal(path, PLAN):
        pass


def test_a_full_disk_leaves_whole_lines_and_says_how_many(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    with Journal(path, PLAN) as journal:
        journal.append(GOOD[0])
        before = path.read_bytes()
        file, room = journal._file, 30

        class Full:
            """Takes 30 bytes more, as a disk does."""

            def write(self, data: bytes) -> int:
                nonlocal room
                if room == 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                n = min(room, len(data))
                room -= n
                return os.write(file.fileno(), data[:n])

            close = file.close

        journal._file = Full()  # type: ignore[assignment]
        with pytest.raises(SparsightError, match="1 results are safe") as caught:
            journal.append(GOOD[1])
        assert caught.value.code == "disk_full"
        assert path.read_bytes() == before
    with Journal(path, PLAN) as journal:
        assert journal.n_done == 1 and journal.claim("1.jpg")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12))
def test_what_is_read_back_is_what_was_kept_while_writing(
    tmp_path_factory: Any, steps: list[tuple[str, bool]]
) -> None:
    path = tmp_path_factory.mktemp("law") / "o.jsonl"
    with Journal(path, PLAN) as journal:
        for name, works in steps:
            if works and not any(each.path == name for each in journal.good()):
                journal.append(done(name, ord(name)))
            elif not works and not any(each.path == name for each in journal.good()):
                journal.append(Result(name, error=f"bad {name}"))
        counts = (journal.n_done, journal.n_failed)
        good = list(journal.good())
    with Journal(path, PLAN) as journal:
        assert (journal.n_done, journal.n_failed) == counts
        assert list(journal.good()) == good
        assert [journal.claim(name) for name in "abc"] == [
            name not in {each.path for each in good} for name in "abc"
        ]


def test_names_that_are_no_utf8_are_told_apart(tmp_path: Path) -> None:
    seen = Seen()
    assert seen.add("caf\udce9.png") and seen.add("caf\u00e9.png") and not seen.add("caf\udce9.png")
    seen.close()
