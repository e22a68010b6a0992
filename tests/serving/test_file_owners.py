"""With API keys a file or a batch is its key's alone, also after a restart; others are told 404."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.keys import add_key, remove_key

LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "fake", "messages": [{"role": "user", "content": "a secret of ann's"}]},
}


@dataclass(frozen=True)
class Place:
    """A folder of files, a file of keys, and what servers over them are asked."""

    folder: Path
    serve: Any
    pipeline: Any

    @property
    def keys(self) -> Path:
        return self.folder / "keys.json"

    def served(self, *, keys: bool = True) -> Any:
        files = self.folder / "files"
        return self.serve(self.pipeline, files=files, keys=self.keys if keys else None)


@pytest.fixture
def place(tmp_path: Path, serve: Any, pipeline: Any) -> Place:
    return Place(tmp_path, serve, pipeline)


@pytest.fixture
def ann(place: Place) -> str:
    return add_key(place.keys, "ann")


@pytest.fixture
def bob(place: Place) -> str:
    return add_key(place.keys, "bob")


def client(url: str, key: str | None) -> httpx.Client:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=60)


def upload(http: httpx.Client) -> str:
    sent = {"file": ("in.jsonl", json.dumps(LINE).encode())}
    answer = http.post("/files", data={"purpose": "batch"}, files=sent)
    assert answer.status_code == 200, answer.text
    assert "owner" not in answer.json()
    return str(answer.json()["id"])


def batch_of(file_id: str) -> dict[str, str]:
    return {
        "input_file_id": file_id,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }


def leave(http: httpx.Client) -> dict[str, str]:
    """A file and a batch of it that has ended: their ids, and that of the answers."""
    found = {"file": upload(http)}
    batch = http.post("/batches", json=batch_of(found["file"])).json()
    until = time.monotonic() + 60
    while batch["status"] != "completed":
        assert time.monotonic() < until and batch["status"] == "in_progress", batch
        time.sleep(0.02)
        batch = http.get(f"/batches/{batch['id']}").json()
    return {**found, "batch": batch["id"], "output": batch["output_file_id"]}


# What may be asked about each of them; the last makes them go.
ASKED = [
    ("GET", "/files/{file}"),
    ("GET", "/files/{output}"),
    ("GET", "/files/{file}/content"),
    ("GET", "/files/{output}/content"),
    ("GET", "/batches/{batch}"),
    ("POST", "/batches"),
    ("POST", "/batches/{batch}/cancel"),
    ("GET", "/files?after={file}"),
    ("GET", "/batches?after={batch}"),
    ("DELETE", "/files/{output}"),
    ("DELETE", "/files/{file}"),
]


def statuses(http: httpx.Client, ids: dict[str, str]) -> Iterator[tuple[str, int]]:
    for method, path in ASKED:
        body = batch_of(ids["file"]) if path == "/batches" else None
        answer = http.request(method, path.format(**ids), json=body)
        assert "secret" not in answer.text or answer.status_code == 200
        yield f"{method} {path}", answer.status_code


@pytest.mark.parametrize("restarted", [False, True])
def test_another_key_is_told_404_of_every_file_and_batch_and_the_owner_is_answered(
    place: Place, ann: str, bob: str, restarted: bool
) -> None:
    with place.served() as url, client(url, ann) as hers, client(url, bob) as his:
        ids = leave(hers)
        if not restarted:
            assert set(dict(statuses(his, ids)).values()) == {404}
    with place.served() as url, client(url, ann) as hers, client(url, bob) as his:
        assert set(dict(statuses(his, ids)).values()) == {404}
        for path in ("/files", "/batches"):
            assert his.get(path).json()["data"] == []
            assert hers.get(path).json()["data"] != []
        mine = upload(his)
        assert [one["id"] for one in his.get("/files").json()["data"]] == [mine]
        told = dict(statuses(hers, ids))
    # A batch that has ended cannot be cancelled: which is said to its owner alone.
    assert told.pop("POST /batches/{batch}/cancel") == 409
    assert set(told.values()) == {200}


def test_what_was_left_without_keys_is_nobodys_and_what_a_key_left_is_not_shown_without(
    place: Place, ann: str
) -> None:
    with place.served(keys=False) as url, client(url, None) as anybody:
        before = leave(anybody)
    with place.served() as url, client(url, ann) as hers:
        assert set(dict(statuses(hers, before)).values()) == {404}
        after = leave(hers)
    with place.served(keys=False) as url, client(url, None) as anybody:
        assert set(dict(statuses(anybody, after)).values()) == {404}
        assert anybody.get(f"/files/{before['output']}").status_code == 200


def test_files_stay_with_a_key_that_is_replaced_under_its_name(place: Place, ann: str) -> None:
    with place.served() as url, client(url, ann) as hers:
        ids = leave(hers)
        remove_key(place.keys, "ann")
        assert hers.get(f"/files/{ids['file']}").status_code == 401
        with client(url, add_key(place.keys, "ann")) as again:
            assert again.get(f"/files/{ids['output']}/content").status_code == 200
