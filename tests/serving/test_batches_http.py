"""Many requests as one file: answered, cancelled, and taken up again after a crash."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest

from serving.batches.lines import check_lines, read_lines
from serving.batches.record import Record, load
from serving.batches.runner import AT_ONCE, BatchRunner
from serving.batches.wire import BatchRequest
from serving.errors import OverloadedError
from serving.files.store import FileStore
from sparse_encoder.errors import SparsightError

CHAT = "/v1/chat/completions"


@pytest.fixture
def client(pipeline: Any, serve: Any, tmp_path: Path) -> Iterator[openai.OpenAI]:
    with (
        serve(pipeline, files=tmp_path) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def line(custom_id: str, body: Mapping[str, Any], url: str = CHAT) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **more}


def steered(uri: str, concept: str) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "?"}]
    edits = [{"concept": concept, "op": "ablate"}]
    messages = [{"role": "user", "content": content}]
    return {"model": "fake", "messages": messages, "steering": {"edits": edits}}


def submit(client: openai.OpenAI, lines: list[str], url: str = CHAT) -> Any:
    file = client.files.create(file="\n".join(lines).encode(), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=url, completion_window="24h", metadata={"mine": "yes"}
    )


def ended(client: openai.OpenAI, batch_id: str) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        batch = client.batches.retrieve(batch_id)
        if batch.status not in ("in_progress", "cancelling"):
            return batch
        time.sleep(0.02)
    raise AssertionError("the batch did not end")


def content(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    """Lines by custom id."""
    assert file_id is not None
    lines = client.files.content(file_id).text.splitlines()
    found = {one["custom_id"]: one for one in map(json.loads, lines)}
    assert len(found) == len(lines)
    return found


def test_each_line_is_answered_as_it_would_be_alone_and_errors_have_their_own_file(
    client: openai.OpenAI, uri: str
) -> None:
    lines = [line(f"q{i}", chat(f"text {i}")) for i in range(40)]
    lines += [line("dog", steered(uri, "dog")), line("cat", steered(uri, "cat"))]
    lines += [line("bad", chat("x", n=99)), line("boom", chat("boom")), ""]
    lines += [line("stream", chat("x", stream=True)), line("none", steered(uri, "unicorn"))]
    batch = ended(client, submit(client, lines).id)
    assert (batch.status, batch.metadata) == ("completed", {"mine": "yes"})
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (46, 42, 4)
    good, bad = content(client, batch.output_file_id), content(client, batch.error_file_id)
    alone = client.chat.completions.create(**chat("text 7"))
    body = good["q7"]["response"]["body"]
    assert body["choices"][0]["message"]["content"] == alone.choices[0].message.content
    for concept in ("dog", "cat"):
        receipt = good[concept]["response"]["body"]["steering"]["receipt"]
        assert receipt["steering"]["edits"][0]["concept"] == concept
    statuses = {key: one["response"]["status_code"] for key, one in bad.items()}
    assert statuses == {"bad": 400, "boom": 500, "stream": 400, "none": 400}
    assert bad["bad"]["response"]["body"]["error"]["param"] == "n"
    assert "secret" not in json.dumps(bad)
    assert [one.id for one in client.batches.list()] == [batch.id]


def test_embeddings_go_in_batches_too(client: openai.OpenAI) -> None:
    body = {"model": "fake", "input": "an animal", "sparse": True}
    batch = ended(client, submit(client, [line("a", body, "/v1/embeddings")], "/v1/embeddings").id)
    found = content(client, batch.output_file_id)["a"]["response"]["body"]
    assert found["data"][0]["embedding"]["indices"] == [0, 1]


@pytest.mark.parametrize(
    ("lines", "number", "word"),
    [
        (["{"], 1, "JSON"),
        ([line("a", {}), line("a", {})], 2, "twice"),
        ([line("a", {}, "/v1/embeddings")], 1, "endpoint"),
        ([line("a", {}, "/v1/files")], 1, "url"),
        (["", line("", {})], 2, "custom_id"),
        (['{"custom_id": "a", "method": "GET", "url": "/v1/embeddings", "body": {}}'], 1, "method"),
        ([], None, "no line"),
    ],
)
def test_a_file_with_a_faulty_line_fails_before_it_starts(
    client: openai.OpenAI, lines: list[str], number: int | None, word: str, pipeline: Any
) -> None:
    batch = submit(client, lines or [" "])
    assert batch.status == "failed" and batch.errors is not None
    assert batch.errors.data[0].line == number and word in batch.errors.data[0].message
    assert pipeline.requests == []


def test_batches_of_files_that_are_not_there_and_unknown_batches_are_404(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.NotFoundError, match="no file"):
        client.batches.create(input_file_id="file-0", endpoint=CHAT, completion_window="24h")
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="no batch"):
            call("batch_0")
    with pytest.raises(openai.BadRequestError, match="24h"):
        client.batches.create(input_file_id="x", endpoint=CHAT, completion_window="1h")


def test_a_cancelled_batch_keeps_what_was_answered(client: openai.OpenAI, pipeline: Any) -> None:
    pipeline.gate.clear()
    batch = submit(client, [line(f"q{i}", chat(f"text {i}")) for i in range(3 * AT_ONCE)])
    assert pipeline.busy.wait(30)
    make = pipeline.answer

    def slow(requests: Any) -> Any:
        time.sleep(0.2)
        return make(requests)

    pipeline.answer = slow
    pipeline.gate.set()
    deadline = time.monotonic() + 30
    while client.batches.retrieve(batch.id).request_counts.completed == 0:
        assert time.monotonic() < deadline
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = ended(client, batch.id)
    assert batch.status == "cancelled"
    found = content(client, batch.output_file_id)
    assert 0 < len(found) == batch.request_counts.completed < 3 * AT_ONCE
    with pytest.raises(openai.ConflictError, match="cancelled"):
        client.batches.cancel(batch.id)


def store_with(tmp_path: Path, n: int) -> tuple[FileStore, str]:
    """A store and the id of a file of n chats."""
    store = FileStore(tmp_path)

    async def lines() -> Any:
        yield "\n".join(line(f"q{i}", chat(str(i))) for i in range(n)).encode()

    return store, asyncio.run(store.receive(lines(), "in.jsonl", None)).id


async def until_ended(runner: BatchRunner, batch_id: str) -> str:
    for _ in range(3000):
        if (status := runner.get(batch_id, None).status) not in ("in_progress", "cancelling"):
            return status
        await asyncio.sleep(0.01)
    raise AssertionError("the batch did not end")


def test_after_a_crash_only_what_has_no_answer_is_asked_again(tmp_path: Path) -> None:
    store, file_id = store_with(tmp_path, 30)
    asked: list[str] = []

    def answering(most: int) -> Any:
        async def answer(_: str, body: Mapping[str, Any]) -> dict[str, Any]:
            if len(asked) >= most:
                await asyncio.sleep(3600)  # the crash finds these open
            asked.append(body["messages"][0]["content"])
            return {"said": asked[-1]}

        return answer

    async def first() -> Record:
        runner = BatchRunner(store, 10_000)
        runner.start(answering(10))
        body = BatchRequest(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        batch = await runner.create(body, None)
        while len(asked) < 10:
            await asyncio.sleep(0.01)
        await runner.close()  # writes nothing: as a kill would leave it
        return load(store, batch.id)

    record = asyncio.run(first())
    assert record.batch.status == "in_progress" and record.batch.output_file_id is None
    output = store.path(record.output)
    whole = output.read_bytes()
    assert whole.count(b"\n") == 10
    output.write_bytes(whole[:-7])  # the crash tore the last line
    (tmp_path / "files" / ("file-" + 32 * "a")).write_bytes(b"an upload that broke off")
    before = list(asked)
    asked.clear()

    async def second() -> str:
        again = FileStore(tmp_path)
        runner = BatchRunner(again, 10_000)
        runner.start(answering(1000))
        status = await until_ended(runner, record.batch.id)
        await runner.close()
        return status

    assert asyncio.run(second()) == "completed"
    assert len(asked) == 21 and set(asked) & set(before) == {before[-1]}
    lines = [json.loads(one) for one in output.read_text().splitlines()]
    assert sorted(one["custom_id"] for one in lines) == sorted(f"q{i}" for i in range(30))
    assert all(one["response"]["body"]["said"] == one["custom_id"][1:] for one in lines)
    counts = load(store, record.batch.id).batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (30, 30, 0)
    assert not (tmp_path / "files" / ("file-" + 32 * "a")).exists()


def test_a_full_queue_delays_a_line_and_does_not_fail_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.batches.runner.RETRY_S", 0.01)
    store, file_id = store_with(tmp_path, 3)
    tries: list[str] = []

    async def answer(_: str, body: Mapping[str, Any]) -> dict[str, Any]:
        tries.append(body["messages"][0]["content"])
        if len(tries) < 6:
            raise OverloadedError("full")
        return {}

    async def run() -> str:
        runner = BatchRunner(store, 10_000)
        runner.start(answer)
        body = BatchRequest(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        batch = await runner.create(body, None)
        status = await until_ended(runner, batch.id)
        assert runner.get(batch.id, None).request_counts.completed == 3
        await runner.close()
        return status

    assert asyncio.run(run()) == "completed"


def test_what_is_left_after_the_window_is_given_up_and_a_full_disk_fails_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file_id = store_with(tmp_path, 3)

    async def answer(_: str, __: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> tuple[str, str]:
        runner = BatchRunner(store, 10_000)
        runner.start(answer)
        body = BatchRequest(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        monkeypatch.setattr("serving.batches.runner.WINDOW_S", -5)
        late = await until_ended(runner, (await runner.create(body, None)).id)
        monkeypatch.setattr("serving.batches.runner.WINDOW_S", 60)
        monkeypatch.setattr("serving.batches.runner.append", full)
        failed = await runner.create(body, None)
        status = await until_ended(runner, failed.id)
        assert "No space" not in runner.get(failed.id, None).errors.data[0].message
        await runner.close()
        return late, status

    assert asyncio.run(run()) == ("expired", "failed")


def test_lines_are_read_one_at_a_time_and_one_that_is_too_long_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"x" * 1000 + b"\n\n" + line("a", {}).encode())
    assert [(number, len(one)) for number, one in read_lines(path, 100)][0] == (1, 101)
    total, faults = check_lines(path, CHAT, 100)
    assert (total, [(fault.line, fault.code) for fault in faults]) == (1, [(1, "body_too_large")])
    with pytest.raises(SparsightError, match="no valid JSON"):
        from serving.batches.lines import parse_line

        parse_line(b"{", 100)
