"""A real server process under hostile requests, slow readers and signals."""

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import hostile

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
# A record that is about this very thing, a standard, or the plain word that it is made up here.
ORIGIN = re.compile(
    r"(CVE-\d{4}-\d{4,}, [\w-]+: .|Pillow #\d+, .|RFC \d+(, [\d.]+)?(:|$)"
    r"|made here, after (the class CWE-\d+|[\w/]+\.py: .))"
)


class Server:
    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, JSON if body is not None else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def raw(self, content: bytes) -> bytes:
        """What comes back for these bytes, up to the end of the connection or a status line."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            try:
                sock.sendall(content)
                sock.shutdown(socket.SHUT_WR)
                return sock.recv(65_536)
            except OSError:  # it hung up while we spoke
                return b""

    def connect(self, words: str, **more: Any) -> socket.socket:
        """A connection on which a stream was asked for."""
        body = {"model": "fake", "stream": True, "max_tokens": 2000, **more}
        body["messages"] = [{"role": "user", "content": words}]
        data = json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        sock.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        return sock

    @property
    def memory_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def n_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def server(mode: str, folder: Path) -> Iterator[Server]:
    port_file = folder / "port"
    script = Path(__file__).with_name("hostile_server.py")
    with (folder / "said").open("w") as said, (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(script), mode, str(port_file)],
            stdout=said,
            stderr=errors,
            text=True,
        )
        try:
            until = time.monotonic() + 120
            while not port_file.exists():
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            yield Server(process, int(port_file.read_text()))
        finally:
            process.kill()
            process.wait(60)


def flood(target: Server, n: int, seed: int) -> Counter[int]:
    """Statuses of n hostile requests from 8 threads; those that got no HTTP answer count as 0."""
    statuses: Counter[int] = Counter()
    lock = threading.Lock()
    images = [hostile.with_image(hostile.as_uri(one.content)) for one in hostile.IMAGES]
    bodies = [one.content for one in (*hostile.BODIES, *hostile.ADDRESSES)]
    sound = images[1]

    def one(dice: random.Random) -> int:
        kind = dice.randrange(20)
        if kind == 0:
            raw = dice.choice([one for one in hostile.RAW if "never ends" not in one.name])
            answer = target.raw(raw.content)
            return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0
        if kind < 8:
            body = dice.choice(bodies)
        elif kind < 12:
            body = dice.choice(images)
        else:
            body = dice.choice(hostile.MUTATIONS)(sound, dice.randrange(len(sound)))
        return target.ask("POST", CHAT, body)[0]

    def work(place: int) -> None:
        dice = random.Random(f"{seed} {place}")
        for _ in range(place, n, 8):
            status = one(dice)
            with lock:
                statuses[status] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(1800)
        assert not thread.is_alive(), "a request hangs"
    return statuses


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Iterator[Server]:
    """A server over a tiny model, for several tests: importing torch is most of their time."""
    with server("model", model_folder) as target:
        yield target


@pytest.mark.parametrize(
    "n", [400, pytest.param(10_000, marks=(pytest.mark.soak, pytest.mark.timeout(2400)))]
)
def test_a_flood_of_hostile_requests_breaks_nothing(
    n: int, model: Server, model_folder: Path
) -> None:
    statuses = flood(model, n // 4, seed=1)
    memory, files = model.memory_mb, model.n_files
    statuses += flood(model, n - n // 4, seed=2)
    found = f"{n} requests: {dict(statuses)}, {memory:.0f} MB, then {model.memory_mb:.0f} MB"
    sys.stderr.write(found + "\n")
    assert sum(statuses.values()) == n
    assert not [status for status in statuses if status >= 500], found
    assert statuses[400] > n / 3
    assert model.memory_mb - memory < 100, found
    assert model.n_files - files < 10
    assert model.ask("GET", "/ready")[0] == 200
    assert model.ask("POST", CHAT, hostile.with_image(hostile.as_uri(hostile.PLAIN)))[0] == 200
    assert (model_folder / "said").read_text() == ""  # no connection, no question to a resolver


def test_each_hostile_input_is_refused_in_our_words(model: Server, model_folder: Path) -> None:
    for one in (*hostile.BODIES, *hostile.ADDRESSES, *hostile.IMAGES):
        body = one.content
        if one in hostile.IMAGES:
            body = hostile.with_image(hostile.as_uri(body))
        status, answer = model.ask("POST", CHAT, body)
        assert status < 500, (one.name, answer)
        if status != 200:
            error = json.loads(answer)["error"]
            assert error["code"] and error["message"], one.name
            for word in ("Traceback", "pydantic", "/work", "site-packages", 'File "'):
                assert word not in error["message"], one.name
        if one in hostile.ADDRESSES:
            assert status == 400, one.name
    for one in hostile.RAW:
        began = time.monotonic()
        answer = model.raw(one.content)
        assert time.monotonic() - began < 30, one.name
        assert not answer.startswith(b"HTTP/1.1 5"), (one.name, answer)
    assert model.ask("GET", "/ready")[0] == 200
    assert (model_folder / "said").read_text() == ""


def test_every_hostile_input_has_a_name_of_its_own_and_an_origin() -> None:
    assert [one for one in hostile.ALL if not one.name or not ORIGIN.match(one.origin)] == []
    for kind in (hostile.BODIES, hostile.ADDRESSES, hostile.IMAGES, hostile.RAW):
        assert len({one.name for one in kind}) == len(kind)
    assert len(hostile.ALL) > 100


def ends(sock: socket.socket) -> list[str]:
    """The events of a stream, read to the connection's end."""
    said = b""
    while piece := sock.recv(65_536):
        said += piece
        if said.endswith(b"0\r\n\r\n"):
            break
    return [line for line in said.decode().splitlines() if line.startswith("data: ")]


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_told_to_stop_it_finishes_its_streams_or_says_that_they_broke_off(tmp_path: Path) -> None:
    with server("0.01", tmp_path) as target:
        short = [target.connect("w " * 10) for _ in range(2)]
        long = [target.connect("w " * 2000) for _ in range(2)]
        for sock in (*short, *long):
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
        began = time.monotonic()
        target.process.send_signal(signal.SIGTERM)
        for sock in short:
            assert ends(sock)[-1] == "data: [DONE]"
            sock.close()
        for sock in long:
            last = ends(sock)[-1]
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "overloaded"
            sock.close()
        assert target.process.wait(60) == 0
        assert time.monotonic() - began < 4 + 10  # the time of grace, and a busy machine
        assert "Traceback" not in (tmp_path / "errors").read_text()


@pytest.mark.soak
def test_200_readers_that_do_not_read_hold_up_nobody(tmp_path: Path) -> None:
    with server("0.0", tmp_path) as target:
        memory = target.memory_mb
        readers = [target.connect("w " * 1500) for _ in range(200)]
        plain = json.dumps(
            {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
        ).encode()
        began = time.monotonic()
        assert target.ask("POST", CHAT, plain)[0] == 200
        assert time.monotonic() - began < 30
        wait_for(lambda: json.loads(target.ask("GET", "/health")[1])["open_requests"] == 0)
        assert target.memory_mb - memory < 200
        for sock in readers:
            sock.close()
        wait_for(lambda: target.n_files < 50)
        assert target.ask("POST", CHAT, plain)[0] == 200
