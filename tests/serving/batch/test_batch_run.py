"""From sources to results, against a pipeline that answers at once."""

import dataclasses
import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from serving.batch import ahead
from serving.batch.item import Item, Photo
from serving.batch.journal import Journal
from serving.batch.plan import PLAIN, Plan, Steering
from serving.batch.reading import read_item
from serving.batch.result import Result
from serving.batch.run import Pace, caption_all, in_shard
from serving.batch.sources import open_sources
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from tests.tiny_model import photo, png, tiny_pipeline
from vlm.edits import Edit
from vlm.pipeline import Answer, Request

HERE = Pace(batch_size=2, workers=0)
DOG = Steering("no dog", (Edit("ablate", concept="dog"),))


def run(
    pipeline: Any, plan: Plan, *arguments: str, out: str | None = None, **options: Any
) -> list[Result]:
    options.setdefault("pace", HERE)
    sources = open_sources(arguments)
    if out is None:
        return list(caption_all(sources, plan, pipeline, **options))
    with Journal(out, plan) as journal:
        return list(caption_all(sources, plan, pipeline, journal=journal, **options))


def test_every_photograph_gets_one_result_in_order(album: Path, pipeline: Any, plan: Plan) -> None:
    (album / "1.png").write_bytes(b"no photograph")
    results = run(pipeline, plan, "album", "album/0.png")
    assert [result.path for result in results] == [f"album/{n}.png" for n in (0, 1, 2, 0)]
    assert [result.error is None for result in results] == [True, False, True, True]


def test_with_a_journal_equal_bytes_are_captioned_once_and_each_is_listed(
    album: Path, pipeline: Any, plan: Plan
) -> None:
    for name in ("3.png", "9.png"):  # the one in the batch of its original, the other later
        (album / name).write_bytes((album / "2.png").read_bytes())
    first, *_ = run(pipeline, plan, "album/0.png", out="o.jsonl")
    assert first.duplicate_of is None
    (album / "a.png").write_bytes((album / "0.png").read_bytes())
    results = run(pipeline, plan, "album", "album/2.png", out="o.jsonl")
    assert [(Path(r.path).stem, r.duplicate_of) for r in results] == [
        ("1", None),
        ("2", None),
        ("3", "album/2.png"),
        ("9", "album/2.png"),
        ("a", "album/0.png"),
    ]
    assert len(pipeline.requests) == 3
    lines = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    assert len({line["path"] for line in lines}) == len(lines) == 6
    twin = next(line for line in lines if line["path"] == "album/9.png")
    assert list(twin) == ["path", "duplicate_of", "caption", "receipt", "recipe"]
    original = next(line for line in lines if line["path"] == "album/2.png")
    assert twin["caption"] == original["caption"] and twin["receipt"] == original["receipt"]


def test_a_broken_twin_of_nothing_is_a_failure_and_not_a_duplicate(
    album: Path, pipeline: Any, plan: Plan
) -> None:
    for name in ("1.png", "2.png"):
        (album / name).write_bytes(b"broken")
    results = run(pipeline, plan, "album", out="o.jsonl")
    assert [(r.error is None, r.duplicate_of) for r in results] == [
        (True, None),
        (False, None),
        (False, None),
    ]


def test_prompts_and_steerings_each_give_a_caption_and_a_batch_has_one_prompt(
    album: Path, pipeline: Any
) -> None:
    plan = Plan("f" * 64, ("who?", "where is it now?"), (PLAIN, DOG))
    asked: list[set[str]] = []
    answer = pipeline.answer

    def watched(requests: Sequence[Request]) -> list[Answer]:
        asked.append({request.messages[-1].parts[-1].text for request in requests})  # type: ignore[union-attr]
        return answer(requests)

    pipeline.answer = watched
    results = run(pipeline, plan, "album")
    assert all(len(prompts) == 1 for prompts in asked)
    assert max(pipeline.batches) == 2
    assert sum(pipeline.batches) == 12
    for result in results:
        captions = result.outputs["captions"]
        assert [(each["prompt"], each["steering"]) for each in captions] == [
            ("who?", "plain"),
            ("who?", "no dog"),
            ("where is it now?", "plain"),
            ("where is it now?", "no dog"),
        ]
        assert captions[1]["caption"] == "1 photos, ablate dog, asked who?"
        assert captions[1]["receipt"]["images"][0]["sha256"] == result.sha256


def test_codes_and_embeddings_come_without_the_language_model(album: Path, pipeline: Any) -> None:
    from serving.batch.answers import dense_embedding

    plan = Plan("f" * 64, (), codes=True, embedding="dense")
    result = run(pipeline, plan, "album")[0]
    assert pipeline.requests == []
    assert result.outputs["code"] == {"features": [0, 1], "activations": [3.0, 4.0]}
    dense = dense_embedding(result.outputs["embedding"], 8)
    assert dense.tolist() == pytest.approx([0.6, 0.8, 0, 0, 0, 0, 0, 0])
    sparse = run(pipeline, Plan("f" * 64, (), embedding="sparse"), "album")[0].outputs["embedding"]
    assert sparse["features"] == [0, 1]
    assert dense_embedding(sparse, 8).tolist() == dense.tolist()


def test_results_do_not_depend_on_how_the_work_is_cut(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    for n in range(7):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    plan = Plan("f" * 64, ("a?", "what is in there?"), (PLAIN, DOG), max_tokens=5, codes=True)
    alone = run(pipeline, plan, str(tmp_path), pace=Pace(batch_size=1, workers=0))
    for size in (3, 8):
        cut = run(pipeline, plan, str(tmp_path), pace=Pace(batch_size=size, workers=0))
        assert cut == alone
    codes = pipeline.encode([photo(0)]).image(0)
    n_active = int(codes.offset[1])
    assert alone[0].outputs["code"]["features"] == codes.index[:n_active].tolist()
    activations = torch.tensor(alone[0].outputs["code"]["activations"])
    assert torch.equal(activations, codes.value[:n_active])


def test_a_plan_that_no_photograph_allows_is_refused(album: Path, pipeline: Any) -> None:
    plan = Plan("f" * 64, steerings=(Steering("s", (Edit("clamp", concept="unicorn"),)),))
    for size in (1, 2):
        with pytest.raises(SparsightError, match="unicorn"):
            run(pipeline, plan, "album", pace=Pace(size, 0))


def test_a_refusal_of_one_photograph_is_its_failure_alone(
    album: Path, pipeline: Any, plan: Plan, pictures: dict[str, bytes]
) -> None:
    import hashlib

    bad = hashlib.sha256(pictures["1.png"]).hexdigest()
    answer = pipeline.answer

    def picky(requests: Sequence[Request]) -> list[Answer]:
        for request in requests:
            if request.messages[-1].parts[0].image.sha256 == bad:  # type: ignore[union-attr]
                raise SparsightError("soft tokens are not finite")
        return answer(requests)

    pipeline.answer = picky
    for size in (1, 2, 3):
        results = run(pipeline, plan, "album", pace=Pace(size, 0))
        assert [result.error for result in results] == [None, "soft tokens are not finite", None]


@pytest.mark.parametrize("n", [1, 3])
def test_shards_share_all_photographs_and_none_twice(n: int) -> None:
    names = [f"album/{i}.png" for i in range(50)]
    parts = [{name for name in names if in_shard(name, (i, n))} for i in range(1, n + 1)]
    assert set().union(*parts) == set(names)
    assert sum(map(len, parts)) == 50


def test_a_run_takes_its_shard_alone(album: Path, pipeline: Any, plan: Plan) -> None:
    done = [
        result.path
        for i in (1, 2)
        for result in run(pipeline, plan, "album", pace=dataclasses.replace(HERE, shard=(i, 2)))
    ]
    assert sorted(done) == [f"album/{n}.png" for n in range(3)]


@dataclass
class Picky:
    """A sink that refuses one photograph, before or after captioning, and notes what it sees."""

    early: bool
    needs_data: bool = False

    def __post_init__(self) -> None:
        self.seen: list[str] = []

    def refuses(self, name: str) -> str | None:
        return "no place" if self.early and name.endswith("1.png") else None

    def before(self, result: Result, data: bytes | None) -> str | None:
        if not self.early and result.path.endswith("1.png"):
            return "no place"
        self.seen.append(f"before {result.path} {data is not None}")
        return None

    def after(self, result: Result) -> None:
        self.seen.append(f"after {result.path}")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("early", [True, False])
def test_what_a_sink_refuses_is_a_failure_that_no_sink_with_data_has_written(
    album: Path, pipeline: Any, plan: Plan, early: bool
) -> None:
    data, picky = Picky(True, needs_data=True), Picky(early)
    data.refuses = lambda _: None  # type: ignore[method-assign]
    results = run(pipeline, plan, "album", out="o.jsonl", sinks=[data, picky])
    assert [result.error for result in results] == [None, "no place", None]
    assert data.seen == [
        f"{step} album/{n}.png{extra}"
        for n in (0, 2)
        for step, extra in (("before", " True"), ("after", ""))
    ]
    assert len(pipeline.requests) == (2 if early else 3)


def test_memory_holds_no_more_than_two_batches_of_photographs(
    album: Path, pipeline: Any, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3, 40):
        (album / f"{n}.png").write_bytes((album / f"{n % 3}.png").read_bytes())
    pipeline.requests = None
    pipeline._answer = lambda request: Answer("a", "stop", 1, 1, None)
    images: list[weakref.ref[DecodedImage]] = []

    def watched(item: Item, keep_data: bool) -> Photo:
        photo = read_item(item, keep_data)
        assert photo.image is not None
        images.append(weakref.ref(photo.image))
        return photo

    monkeypatch.setattr(ahead, "read_item", watched)
    held = []
    for result in caption_all(open_sources(["album"]), plan, pipeline, pace=HERE):
        assert result.error is None
        held.append(sum(image() is not None for image in images))
    assert len(images) == 40
    assert 0 < max(held) <= 2 * HERE.batch_size
