"""API keys: their file, and who is let in."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from serving.access import Access, RateLimitError
from serving.cli.main import main
from serving.keys import KeyRing, add_key, hash_key, read_keys, remove_key
from serving.limits import Limits
from sparse_encoder.errors import SparsightError

BODY = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_the_file_holds_no_key_and_is_its_owners_alone(path: Path) -> None:
    key = add_key(path, "ann")
    assert key.startswith("sk-sparsight-") and len(key) > 50
    assert key.removeprefix("sk-sparsight-") not in path.read_text()
    assert hash_key(key) in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_key_is_found_under_its_name_and_no_other_text_is(path: Path) -> None:
    keys = {name: add_key(path, name) for name in ("ann", "bob")}
    ring = KeyRing(path)
    for name, key in keys.items():
        found = ring.find(key)
        assert found is not None and found.name == name
        for other in (key[:-1], key + "x", key.upper(), hash_key(key), "", "\udcff"):
            assert ring.find(other) is None


def test_hashes_are_compared_in_constant_time_with_every_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add_key(path, "ann")
    add_key(path, "bob")
    ring, compared = KeyRing(path), []
    monkeypatch.setattr(
        "serving.keys.hmac.compare_digest", lambda a, b: bool(compared.append(a)) or a == b
    )
    assert ring.find(first) is not None
    assert compared == [key.sha256 for key in read_keys(path)]


def test_a_removed_key_is_unknown_from_the_next_request_on(path: Path) -> None:
    key = add_key(path, "ann")
    ring = KeyRing(path)
    assert ring.find(key) is not None
    remove_key(path, "ann")
    assert ring.find(key) is None
    assert ring.find(add_key(path, "ann")) is not None


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no file of keys"),
        (b"[]", "no file of keys"),
        (b'{"keys": [1]}', "no file of keys"),
        (b"[" * 100_000, "no file of keys"),
        (b'{"keys": [{"name": "a", "sha256": "b", "created": ""}]}', "64 hexadecimal"),
        (b'{"keys": [{"name": "a b", "sha256": "b", "created": ""}]}', "no name"),
        (
            json.dumps(
                {"keys": [{"name": "a", "sha256": "0" * 64, "created": "", "open": 0}]}
            ).encode(),
            "open is 0",
        ),
        (
            json.dumps({"keys": 2 * [{"name": "a", "sha256": "0" * 64, "created": ""}]}).encode(),
            "same name",
        ),
    ],
)
def test_a_file_that_holds_no_keys_is_refused(path: Path, content: bytes, word: str) -> None:
    path.write_bytes(content)
    with pytest.raises(SparsightError, match=word) as refused:
        KeyRing(path)
    assert str(path) in refused.value.message


def test_a_name_is_used_once_and_cannot_break_a_log_line(path: Path) -> None:
    add_key(path, "ann")
    with pytest.raises(SparsightError, match="another name"):
        add_key(path, "ann")
    for name in ("", "a b", "a\n", "x" * 65, "-a"):
        with pytest.raises(SparsightError, match="no name of a key"):
            add_key(path, name)
    with pytest.raises(SparsightError, match="it has ann"):
        remove_key(path, "bob")


def test_only_a_known_key_is_let_in_and_probes_need_none(
    path: Path, pipeline: Any, serve: Any
) -> None:
    key = add_key(path, "ann")
    with serve(pipeline, keys=path) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert http.post(CHAT, json=BODY, headers=bearer(key)).status_code == 200
        for headers in ({}, bearer("wrong"), {"authorization": f"Basic {key}"}):
            refused = http.post(CHAT, json=BODY, headers=headers)
            assert refused.status_code == 401, headers
            assert refused.json()["error"]["code"] == "invalid_api_key"
            assert refused.headers["x-request-id"] and refused.headers["www-authenticate"]
        assert http.get("/nowhere").status_code == 401
        assert http.get("/nowhere", headers=bearer(key)).status_code == 404
        for probe in ("/health", "/ready", "/metrics"):
            assert http.get(probe).status_code == 200
        os.truncate(path, 0)
        broken = http.post(CHAT, json=BODY, headers=bearer(key))
        assert broken.status_code == 503
        assert str(path) not in broken.text
    assert len(pipeline.requests) == 1


def test_the_rate_of_one_key_is_not_anothers(path: Path, pipeline: Any, serve: Any) -> None:
    ann, bob = add_key(path, "ann", per_minute=2), add_key(path, "bob")
    with serve(pipeline, keys=path) as url, httpx.Client(base_url=url, timeout=60) as http:
        got = [http.get("/v1/models", headers=bearer(ann)) for _ in range(3)]
        assert [answer.status_code for answer in got] == [200, 200, 429]
        error = got[2].json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert 1 <= int(got[2].headers["retry-after"]) <= 30
        assert http.get("/v1/models", headers=bearer(bob)).status_code == 200


async def nothing(scope: Any, receive: Any, send: Any) -> None: ...


def test_a_bucket_fills_evenly_and_never_above_a_minutes_worth(path: Path) -> None:
    add_key(path, "ann", per_minute=6)
    ring, now = KeyRing(path), [0.0]
    access = Access(nothing, ring, Limits(), clock=lambda: now[0])
    key = read_keys(path)[0]

    def allowed() -> int:
        for n in range(100):
            try:
                access._take(key)
            except RateLimitError:
                return n
        return 100

    assert allowed() == 6
    now[0] = 9.9
    assert allowed() == 0
    now[0] = 10.0
    assert allowed() == 1
    now[0] = 10_000.0
    assert allowed() == 6


def test_more_at_once_than_a_key_may_is_refused(path: Path) -> None:
    add_key(path, "ann", open=2)
    access = Access(nothing, KeyRing(path), Limits())
    key = read_keys(path)[0]
    for _ in range(2):
        access._take(key).n_open += 1
    with pytest.raises(RateLimitError, match="at most 2"):
        access._take(key)


def test_keys_are_added_listed_and_removed_on_the_command_line(path: Path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(main, ["keys", *words, "--file", str(path)])

    key = run("add", "ann", "--per-minute", "30").stdout.strip()
    assert KeyRing(path).find(key) is not None
    listed = json.loads(run("list", "--json").stdout)
    assert (listed["name"], listed["per_minute"], listed["open"]) == ("ann", 30, None)
    assert "sha256" not in listed and key not in run("list").stdout
    assert run("remove", "ann").exit_code == 0
    assert run("list").stdout == ""
    assert run("remove", "ann").exit_code == 1


def test_the_page_and_keys_do_not_go_together(path: Path) -> None:
    add_key(path, "ann")
    done = CliRunner().invoke(main, ["serve", "--keys", str(path), "--demo"])
    assert done.exit_code == 2 and "--demo" in done.stderr
    done = CliRunner().invoke(main, ["serve", "--keys", str(path) + "x"])
    assert done.exit_code == 1 and "sparsight keys add" in done.stderr
