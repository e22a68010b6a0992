"""Files that clients leave here, as OpenAI's client sees them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serving.app import create_app
from serving.files.store import FileStore
from sparse_encoder.errors import SparsightError


@pytest.fixture
def address(pipeline: Any, serve: Any, tmp_path: Path) -> Iterator[str]:
    with serve(pipeline, files=tmp_path / "kept") as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_file_comes_back_as_it_was_sent_until_it_is_deleted(client: openai.OpenAI) -> None:
    content = b'{"a": 1}\n' * 300_000  # more than one chunk
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    assert (file.bytes, file.filename, file.purpose) == (len(content), "in.jsonl", "batch")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == content
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="no file"):
        client.files.content(file.id)
    assert list(client.files.list()) == []


def test_files_are_listed_page_by_page(client: openai.OpenAI) -> None:
    made = {client.files.create(file=b"x", purpose="batch").id for _ in range(5)}
    assert {file.id for file in client.files.list(limit=2)} == made  # the client turns the pages
    first = client.files.list(limit=2)
    assert len(first.data) == 2 and first.has_more
    assert list(client.files.list(purpose="batch_output")) == []
    with pytest.raises(openai.NotFoundError, match="in this list"):
        client.files.list(after="file-0")
    with pytest.raises(openai.BadRequestError, match="expected asc or desc"):
        client.files.list(order="newest")  # type: ignore[arg-type]


FORM = {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("send", "status", "word"),
    [
        ({"json": {}}, 415, "multipart/form-data"),
        ({"files": {"file": b"x"}}, 400, "purpose is missing"),
        ({"files": {"file": b"x"}, "data": {"purpose": "vision"}}, 400, "'vision'"),
        ({"files": {"other": b"x"}, "data": {"purpose": "batch"}}, 400, "'other'"),
        ({"files": {"file": (None, b"x")}, "data": {"purpose": "batch"}}, 400, "has no file"),
        ({"content": b"nothing", "headers": FORM}, 400, "no form"),
        ({"content": b"--b\r\nnothing", "headers": FORM}, 400, "purpose is missing"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, 400, "no form"),
    ],
)
def test_an_upload_that_is_no_file_for_a_batch_is_refused(
    address: str, send: dict[str, Any], status: int, word: str
) -> None:
    answer = httpx.post(f"{address}/v1/files", timeout=60, **send)
    assert answer.status_code == status and word in answer.json()["error"]["message"], answer.text


@pytest.mark.parametrize("name", ["..", "../.lock", "file-1", "file-" + 32 * "g", "%2e%2e%2f.lock"])
def test_no_name_from_outside_becomes_a_path(address: str, name: str) -> None:
    for path in (f"/v1/files/{name}", f"/v1/files/{name}/content"):
        assert httpx.get(address + path, timeout=60).status_code == 404


def test_a_file_or_a_folder_that_grows_too_large_is_refused_and_leaves_nothing(
    pipeline: Any, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(folder: Path) -> FileStore:
        return FileStore(folder, max_file=100, max_stored=500)

    monkeypatch.setattr("serving.app.FileStore", small)
    with serve(pipeline, files=tmp_path) as url:

        def send(n: int) -> httpx.Response:
            form = {"files": {"file": b"x" * n}, "data": {"purpose": "batch"}}
            return httpx.post(f"{url}/v1/files", timeout=60, **form)

        assert send(100).status_code == 200
        assert (send(101).status_code, send(100_000).status_code) == (413, 413)
        statuses = [send(90).status_code for _ in range(4)]
        assert statuses[-1] == 507
    n_whole = 1 + statuses.count(200)
    assert len(list((tmp_path / "files").iterdir())) == 2 * n_whole


def test_a_server_without_a_folder_says_how_to_have_one(http: httpx.Client) -> None:
    for path in ("/v1/files", "/v1/batches"):
        answer = http.get(path)
        assert answer.status_code == 404 and "--files FOLDER" in answer.json()["error"]["message"]


def test_a_folder_that_another_server_has_or_that_is_a_file_is_refused(
    pipeline: Any, tmp_path: Path
) -> None:
    store = FileStore(tmp_path / "kept")
    with pytest.raises(SparsightError, match="another server uses"):
        create_app(pipeline, files=tmp_path / "kept")
    store.close()
    FileStore(tmp_path / "kept").close()
    (tmp_path / "file").write_text("")
    with pytest.raises(SparsightError, match="cannot keep files"):
        create_app(pipeline, files=tmp_path / "file")
