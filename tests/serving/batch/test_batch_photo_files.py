"""Photographs that are files, from their names to captions."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serving.batch.plan import Plan, Steering
from serving.batch.run import Pace, caption_all, explain_failures
from serving.batch.sources.files import Files
from serving.photo_files import find_photos
from vlm.edits import Edit
from vlm.pipeline import Answer, Request

EDITS = (Edit("ablate", concept="dog"),)
PLAN = Plan("f" * 64, ("what?",), (Steering("no dog", EDITS),), 9)
PACE = Pace(batch_size=2, workers=0)


class Counting:
    """Answers with a running number and keeps the requests."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Request]] = []
        self.n = 0

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        self.batches.append(requests)
        self.n += len(requests)
        numbers = range(self.n - len(requests), self.n)
        return [Answer(f"caption {i}", "stop", 1, 2, None) for i in numbers]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Five photographs and three other files, two levels deep."""
    photo = Image.new("RGB", (4, 4), "red")
    for name in ("b.jpg", "a/2.PNG", "a/10.webp", "c.gif", "a/deep/x.tiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path / name)
    for name in ("notes.txt", ".hidden.jpg", "a/raw.nef"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(paths: Sequence[str], album: Path) -> list[str]:
    return [os.path.relpath(path, album) for path in paths]


def test_folders_are_searched_to_the_bottom_in_order_of_name(album: Path) -> None:
    found = names(list(find_photos([str(album)])), album)
    assert found == ["a/10.webp", "a/2.PNG", "a/deep/x.tiff", "b.jpg", "c.gif"]


def test_arguments_keep_their_order_and_may_come_twice(album: Path) -> None:
    b, deep = str(album / "b.jpg"), str(album / "a" / "deep")
    assert names(list(find_photos([b, deep, b])), album) == ["b.jpg", "a/deep/x.tiff", "b.jpg"]


def test_a_folder_that_links_to_itself_is_searched_once(album: Path) -> None:
    (album / "a" / "loop").symlink_to(album)
    assert len(list(find_photos([str(album)]))) == 5


def test_what_leads_to_no_photograph_is_counted_and_explained(tmp_path: Path) -> None:
    paths = [str(tmp_path), str(tmp_path / "none.jpg")]
    sources = [Files(path) for path in paths]
    assert [(source.count(), source.has_any()) for source in sources] == [(1, False)] * 2
    empty, missing = explain_failures(sources)
    assert "no photographs in this folder" in str(empty.error)
    assert missing.error == "there is no such file"
    assert missing.to_json() == {"path": paths[1], "error": missing.error}


def test_every_photograph_gets_its_own_caption_and_bad_ones_an_error_in_their_place(
    album: Path,
) -> None:
    (album / "b.jpg").write_bytes(b"no photograph")
    pipeline: Any = Counting()
    results = list(caption_all([Files(str(album))], PLAN, pipeline, pace=PACE))
    assert names([result.path for result in results], album) == [
        "a/10.webp", "a/2.PNG", "a/deep/x.tiff", "b.jpg", "c.gif",
    ]  # fmt: skip
    captions = [result.outputs.get("caption") for result in results]
    assert captions == ["caption 0", "caption 1", "caption 2", None, "caption 3"]
    assert results[3].error is not None and str(album) not in results[3].error
    assert [len(batch) for batch in pipeline.batches] == [2, 1, 1]


def test_the_recipe_reaches_the_pipeline_and_a_receipt_is_asked_for(album: Path) -> None:
    pipeline: Any = Counting()
    list(caption_all([Files(str(album / "b.jpg"))], PLAN, pipeline, pace=PACE))
    (request,) = pipeline.batches[0]
    assert request.edits == EDITS and request.want_receipt
    assert request.sampling.max_tokens == 9
    assert request.messages[-1].parts[-1].text == "what?"


def test_photographs_are_read_only_when_their_batch_comes(album: Path) -> None:
    pipeline: Any = Counting()
    results = caption_all([Files(str(album))], PLAN, pipeline, pace=PACE)
    next(results)
    for path in (album / "b.jpg", album / "c.gif"):
        path.unlink()
    assert [result.error is None for result in results] == [True, True, False, False]


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch, album: Path) -> None:
    content = io.BytesIO((album / "b.jpg").read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    pipeline: Any = Counting()
    source = Files("-")
    assert (source.count(), source.has_any()) == (1, True)
    (result,) = caption_all([source], PLAN, pipeline, pace=PACE)
    assert (result.path, result.outputs["caption"]) == ("-", "caption 0")
