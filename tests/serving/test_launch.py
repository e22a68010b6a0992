"""Starting the server: port, example request, pages."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import serving.launch
from serving.launch import address, bind, example_curl, load_pages
from sparse_encoder.errors import SparsightError


def test_a_port_in_use_is_refused_before_anything_slow() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SparsightError, match=f"127.0.0.1:{port}.*--port"):
            bind("127.0.0.1", port)


def test_a_host_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SparsightError, match="no.such.host"):
        bind("no.such.host.invalid", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_address_is_one_that_this_machine_reaches(host: str) -> None:
    with bind(host, 0) as bound:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address(bound))


def test_no_client_is_left_waiting_before_the_server_listens() -> None:
    with bind("127.0.0.1", 0) as bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname(), timeout=1)


def test_answers_are_not_held_back_for_40_ms() -> None:
    with bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP  # asyncio's condition for TCP_NODELAY


def test_a_page_is_mounted_with_the_address_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[Any] = []
    entry = SimpleNamespace(load=lambda: lambda app, api_url: mounted.append((app, api_url)))
    monkeypatch.setattr(serving.launch, "entry_points", lambda group: [entry])
    (mount,) = load_pages("http://here")
    mount("app")  # type: ignore[arg-type]
    assert mounted == [("app", "http://here")]


def test_without_an_installed_page_the_flag_to_use_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving.launch, "entry_points", lambda group: [])
    with pytest.raises(SparsightError, match="--no-demo"):
        load_pages("http://here")


def test_the_printed_curl_works_when_pasted_into_a_shell(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Any
) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "it's a cache"))
    example = tmp_path / "chelsea.png"
    example.write_bytes(photo())
    command = example_curl(url, "fake", example)
    assert command is not None and "\n" not in command
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["message"]["content"].startswith("1 photos, ablate cat, clamp dog")
    assert answer["steering"]["receipt"]["images"][0]["sha256"]


SERVE = """
import sys
sys.path.insert(0, {here!r})
from conftest import FakePipeline
from vlm.pipeline import Pipeline
Pipeline.load = lambda *_, **__: FakePipeline()
import serving.app
from vlm.wordnet import wordnet
make_app = serving.app.create_app
def create_app(*arguments, **options):
    print("WordNet read:", wordnet.cache_info().currsize, file=sys.stderr)
    return make_app(*arguments, **options)
serving.app.create_app = create_app
from serving.cli.main import main
main(["serve", "--no-demo", "--port", "0"])
"""


@pytest.mark.slow
def test_serve_says_where_it_is_answers_and_ends_on_an_interrupt(tmp_path: Path) -> None:
    code = SERVE.format(here=os.path.dirname(__file__))
    environment = {**os.environ, "SPARSIGHT_CACHE": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=environment
    )
    with process:
        try:
            assert process.stderr is not None
            said = []
            while "Ctrl-C ends it\n" not in said:
                said.append(process.stderr.readline())
                assert said[-1], said  # it ended
            url = next(line.split()[1] for line in said if line.startswith("API:"))
            assert (
                httpx.get(url.removesuffix("/v1") + "/health", timeout=60).json()["status"] == "ok"
            )
            process.send_signal(signal.SIGINT)
            assert process.stderr.read() == ""
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert said[0] == "loading sparsight-mini ...\n"
    assert "WordNet read: 1\n" in said  # a first request that takes something out would wait for it


@pytest.mark.skipif(sys.platform != "linux", reason="torch has GNU's OpenMP on Linux")
def test_a_server_s_threads_spin_briefly() -> None:
    """libgomp tells what it read when torch loads it; a torch imported before would tell its default."""
    code = "from serving.cli.main import main; main()"
    environment = {**os.environ, "OMP_DISPLAY_ENV": "verbose"}
    environment.pop("GOMP_SPINCOUNT", None)
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--port", "0", "--model", "no-such-model"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 1 and "no-such-model" in done.stderr
    assert "GOMP_SPINCOUNT = '10000'" in done.stderr
