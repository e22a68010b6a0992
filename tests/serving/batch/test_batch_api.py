"""Captions from running gateways, which come and go."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from serving.batch import gateways as pool
from serving.batch.api_engine import ApiEngine
from serving.batch.engine import LocalEngine
from serving.batch.gateways import GatewayError, Gateways
from serving.batch.journal import Journal
from serving.batch.plan import PLAIN, Plan, Steering, Tags
from serving.batch.result import Result
from serving.batch.run import Pace, run
from serving.batch.sources import open_sources
from serving.cli.main import main
from sparse_encoder.errors import SparsightError
from tests.serving.batch.fake_gateway import FINGERPRINT, FakeGateway, gateway
from tests.tiny_model import photo, png, tiny_pipeline
from vlm.edits import Edit
from vlm.pipeline import Pipeline
from vlm.recipe import Recipe
from vlm.steer_from import SteerFrom

SCHEMA = {
    "type": "object",
    "properties": {"animal": {"enum": ["cat", "dog"]}},
    "required": ["animal"],
    "additionalProperties": False,
}
Engine = Callable[..., ApiEngine]
N_CONTENTS = 21  # of the photographs of `many`; a fake does not know a bad one
PLAN = Plan(FINGERPRINT, ("what?",), max_tokens=5)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(pool, "LONGEST_PAUSE_S", 0.1)


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    with gateway() as server:
        yield server


@pytest.fixture
def many(album: Path) -> Path:
    """Twenty photographs, a bad one and two with the bytes of others; three more of the album."""
    for n in range(20):
        (album / f"{n:02d}.png").write_bytes(png(5 if n in (7, 16) else n))
    (album / "13.png").write_bytes(b"bad")
    return album


@pytest.fixture
def engine() -> Iterator[Callable[..., ApiEngine]]:
    """Makes an engine over gateways at these addresses."""
    with ExitStack() as opened:

        def make(*urls: str, n_open: int = 4, steer_from: Any = None, **options: Any) -> ApiEngine:
            gateways = Gateways(urls, **{"patience_s": 20, **options})
            opened.callback(gateways.close)
            return ApiEngine(gateways, gateways.check(), n_open=n_open, steer_from=steer_from)

        yield make


def captions(by: Any, out: str, plan: Plan = PLAN) -> list[Result]:
    with Journal(out, plan) as journal:
        return list(run(open_sources(["album"]), plan, by, journal=journal, pace=Pace(4, 0)))


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_gateways_write_the_file_that_a_local_run_writes(
    engine: Engine, many: Path, serve: Callable[..., Any]
) -> None:
    pipeline = tiny_pipeline()
    edits = (Edit("scale", feature=3, value=0.5),)
    steerings = (PLAIN, Steering("less", edits), Steering("r", recipe=Recipe("r", "f" * 64, edits)))
    for name, plan in {
        "simple": Plan("f" * 64, max_tokens=5),
        "much": Plan(
            "f" * 64, ("a?", "b?"), steerings, 5, True, "dense", Tags.of(SCHEMA, "which?")
        ),
        "codes": Plan("f" * 64, (), codes=True, embedding="sparse"),
    }.items():
        captions(LocalEngine(pipeline, batch_size=4, workers=0), f"{name}-here.jsonl", plan)
        with serve(tiny_pipeline()) as one, serve(tiny_pipeline()) as other:
            captions(engine(one, other), f"{name}-there.jsonl", plan)
        here, there = lines(f"{name}-here.jsonl"), lines(f"{name}-there.jsonl")
        assert here == there and len(there) == 23
    assert sum("error" in line for line in lines("much-there.jsonl")) == 1
    assert sum("duplicate_of" in line for line in lines("much-there.jsonl")) >= 2
    assert {line["tags"][0]["json"]["animal"] for line in lines("much-there.jsonl")[:3]} <= {
        "cat",
        "dog",
    }


def test_features_of_another_photograph_are_taken_over_gateways_too(
    engine: Engine, album: Path, serve: Callable[..., Any]
) -> None:
    other = SteerFrom(photo(3), 4)
    plan = Plan("f" * 64, steerings=(Steering("from", steer_from=other),), max_tokens=5)
    (album / "0.png").write_bytes(png(0))
    with serve(tiny_pipeline()) as url:
        by = engine(url, steer_from={other.photo.sha256: png(3)})
        found = captions(by, "o.jsonl", plan)[0]
    local = LocalEngine(tiny_pipeline(), batch_size=1, workers=0)
    here = captions(local, "h.jsonl", plan)[0]
    assert found.captions == here.captions
    assert found.outputs["receipt"]["edits"] == here.outputs["receipt"]["edits"] != []


def test_requests_are_shared_and_what_one_gateway_fails_the_other_answers(
    engine: Engine, many: Path, fake: FakeGateway
) -> None:
    with gateway() as other:
        by = engine(fake.url, other.url)
        captions(by, "shared.jsonl")
        assert fake.n_chats > 3 and other.n_chats > 3
        assert fake.n_chats + other.n_chats == N_CONTENTS
        other.faults = [503, 0, 429, 502, 500, 504]
        captions(by, "o.jsonl")
        assert fake.n_chats + other.n_chats == 2 * N_CONTENTS
    assert Path("o.jsonl").read_bytes() == Path("shared.jsonl").read_bytes()


def test_a_gateway_that_is_gone_comes_back_and_is_asked_again(engine: Engine, many: Path) -> None:
    found: list[Result] = []
    with gateway() as first:
        port = first.server_port
        by = engine(first.url)
        first.retry_after = "x"

        def work() -> None:
            found.extend(captions(by, "o.jsonl"))

        thread = threading.Thread(target=work)
        first.faults = [503] * 8  # so that it is not over before it is gone
        thread.start()
        while first.n_chats < 2:
            time.sleep(0.001)
    n_before = first.n_chats
    time.sleep(0.3)
    assert thread.is_alive()
    with gateway(port) as back:
        thread.join(60)
        assert back.n_chats + n_before >= 20 and back.n_chats > 0
    assert len(found) == 23 and all(result.error is None for result in found)


def test_a_run_that_no_gateway_answers_stops_and_goes_on_later(
    engine: Engine, many: Path, fake: FakeGateway
) -> None:
    captions(engine(fake.url), "whole.jsonl")
    with gateway() as other:
        by = engine(other.url, patience_s=0.5)
        kept = 0
        stopped = pytest.raises(GatewayError, match="no gateway has answered .* command again")
        with stopped, Journal("o.jsonl", PLAN) as journal:
            results = run(open_sources(["album"]), PLAN, by, journal=journal, pace=Pace(4, 0))
            for kept, _ in enumerate(results, 1):
                if kept == 3:
                    other.always = 503
    assert 3 <= kept < 23
    assert len(lines("o.jsonl")) == kept
    captions(engine(fake.url), "o.jsonl")
    assert Path("o.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("fault", "word"), [(0, "given up after 5 tries"), (500, "answered 500 .*fault 500")]
)
def test_a_photograph_that_no_gateway_survives_is_its_own_failure(
    engine: Engine, album: Path, fake: FakeGateway, fault: int, word: str
) -> None:
    by = engine(fake.url, n_open=1)
    fake.faults = [fault] * pool.MAX_TRIES
    (album / "a.png").write_bytes(png(9))
    with Journal("o.jsonl", PLAN) as journal:
        results = list(run(open_sources(["album"]), PLAN, by, journal=journal, pace=Pace(1, 0)))
    assert [result.error is None for result in results] == [False, True, True, True]
    assert re.search(word, str(results[0].error))


def test_a_refusal_is_told_in_the_gateways_words_without_its_place(
    engine: Engine, album: Path, fake: FakeGateway
) -> None:
    by = engine(fake.url, n_open=1)
    fake.faults = [400]
    results = captions(by, "o.jsonl")
    assert [result.error for result in results] == ["fault 400", None, None]
    fake.always = 400
    (album / "a.png").write_bytes(png(9))
    Path("o.jsonl").unlink()
    with pytest.raises(SparsightError, match="fault 400"):  # of all: it is the plan's fault
        captions(by, "o.jsonl")


def test_a_key_that_is_refused_ends_the_run(engine: Engine, album: Path, fake: FakeGateway) -> None:
    by = engine(fake.url, api_key="secret")
    fake.always = 401
    with pytest.raises(GatewayError, match="refuses this client: messages"):
        captions(by, "o.jsonl")
    assert fake.keys == {"Bearer secret"}


def test_gateways_of_two_models_are_refused_and_one_that_changes_is_left_out(
    engine: Engine, many: Path, fake: FakeGateway
) -> None:
    with gateway() as other:
        by = engine(fake.url, other.url)
        other.fingerprint = "e" * 64
        results = captions(by, "o.jsonl")
        assert len(results) == 23
        assert fake.n_chats == N_CONTENTS  # what the other answered was not taken
        with pytest.raises(GatewayError, match="gateways of one model"):
            engine(fake.url, other.url)
        assert captions(engine(other.url), "e.jsonl", Plan("e" * 64, max_tokens=5))


@pytest.mark.parametrize(
    ("url", "word"),
    [("127.0.0.1:8000", "write http://HOST:PORT"), ("http://127.0.0.1:9", "cannot be reached")],
)
def test_what_is_no_gateway_is_refused(engine: Engine, url: str, word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        engine(url)


def test_the_command_asks_gateways_and_loads_no_model(
    album: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    (album / "bad.png").write_bytes(b"bad")
    asked = ["caption", "album", "--api", url, "--steer", "dog=0", "--json"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("caption", "")[:22] for line in found] == [
        "1 photos, ablate dog, a"[:22]
    ] * 3 + [""]
    assert found[3]["error"].startswith("the image cannot be read")
    gone = CliRunner().invoke(main, ["caption", "album", "--api", "http://127.0.0.1:9"])
    assert gone.exit_code == 1 and "is `sparsight serve` running there?" in gone.stderr
