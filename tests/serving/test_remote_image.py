"""Fetching by address: what is allowed, what is never asked, and what is given up."""

import ast
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.limits import Limits, read_limits
from serving.remote_image import RemoteImageError, RemoteImages, fetch_image, is_public
from sparse_encoder.errors import SparsightError

ROOT = Path(__file__).parents[2]
PUBLIC = "93.184.215.14"


class Web(BaseHTTPRequestHandler):
    """/photo is one, /to?ADDRESS leads there, /big never ends, /slow drips."""

    content = b""
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path, _, query = self.path.partition("?")
        if path == "/to":
            self.send_response(302)
            self.send_header("Location", query)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        if path == "/photo":
            self.wfile.write(self.content)
        for _ in range({"/big": 10_000, "/slow": 600}.get(path, 0)):
            try:
                self.wfile.write(b"x" * (10_000 if path == "/big" else 1))
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.1 if path == "/slow" else 0)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(photo: Any) -> Iterator[int]:
    Web.content, Web.asked = photo(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each name leads to, in place of the resolver's answers."""
    known: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        try:
            found = known.get(host) or [str(ipaddress.ip_address(host))]
        except ValueError:
            raise socket.gaierror(8, "no such name") from None
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


ANY = RemoteImages(hosts=frozenset(["*"]))
HERE = RemoteImages(hosts=frozenset(["*"]), private=True)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        "2001:0:7f00:1::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_no_address_of_a_private_network_or_a_metadata_service_is_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("ftp://a.org/x", "not a web address"),
        ("file:///etc/passwd", "not a web address"),
        ("gopher://127.0.0.1:70/_x", "not a web address"),
        ("http:///x", "not a web address"),
        ("http://a.org\\@127.0.0.1/", "not a web address"),
        ("http://a.org\r\nX: y/", "not a web address"),
        ("http://a.org /x", "not a web address"),
        ("http://a.org:99999/", "not a web address"),
        ("http://[::1/", "not a web address"),
        ("http://user:word@a.org/", "name or password"),
        ("http://a.org@127.0.0.1/", "name or password"),
        ("http://a.org:6379/", "port 6379"),
        ("http://127.0.0.1/", "private network"),
        ("http://[::1]/", "private network"),
        ("http://[::ffff:127.0.0.1]/", "private network"),
        ("http://localhost/", "private network"),
        ("http://localhost./", "private network"),
        ("http://inside.example/", "private network"),
        ("http://mixed.example/", "private network"),
        ("http://nowhere.example/", "cannot be reached"),
    ],
)
def test_what_leads_astray_is_refused_before_a_connection(
    address: str, word: str, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names |= {
        "localhost": ["127.0.0.1"],
        "inside.example": ["10.0.0.7"],
        "mixed.example": [PUBLIC, "127.0.0.1"],
    }
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(RemoteImageError, match=word):
        fetch_image(address, ANY)


@pytest.mark.parametrize(
    "address", ["http://2130706433/", "http://0x7f.1/", "http://017700000001/"]
)
def test_other_spellings_of_this_machine_are_seen_through(address: str) -> None:
    with pytest.raises(RemoteImageError):  # resolved to 127.0.0.1, or to nothing
        fetch_image(address, ANY)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("a.org", True), ("A.ORG", True), ("a.org.", True), ("b.a.org", False), ("xa.org", False),
        ("a.org.evil.com", False), ("c.b.org", True), ("d.c.b.org", True), ("b.org", False),
        ("xb.org", False),
    ],
)  # fmt: skip
def test_only_allowed_hosts_are_asked(
    host: str, allowed: bool, names: dict[str, list[str]]
) -> None:
    some = RemoteImages(hosts=frozenset(["a.org", "*.b.org"]))
    with pytest.raises(
        RemoteImageError, match="cannot be reached" if allowed else "not fetched from"
    ):
        fetch_image(f"http://{host}/", some)


def test_the_connection_goes_to_the_address_that_was_checked(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["a.org"] = [PUBLIC]
    asked: list[Any] = []

    def connect(address: Any, *_: Any, **__: Any) -> socket.socket:
        names["a.org"] = ["127.0.0.1"]  # the name changes as soon as it was checked
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(RemoteImageError, match="cannot be reached"):
        fetch_image("http://a.org/x", ANY)
    assert asked == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1/", "http://169.254.169.254/latest", "ftp://x.org/", "//10.0.0.1/"]
)
def test_a_redirect_is_checked_like_the_first_address(
    port: int, target: str, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["a.org"] = [PUBLIC]
    connect = socket.create_connection

    def here(address: Any, *rest: Any, **more: Any) -> socket.socket:
        assert address == (PUBLIC, 80)
        return connect(("127.0.0.1", port), *rest, **more)

    monkeypatch.setattr(socket, "create_connection", here)
    with pytest.raises(RemoteImageError, match="private network|not a web address"):
        fetch_image(f"http://a.org/to?{target}", ANY)
    assert Web.asked == [f"/to?{target}"]


def test_redirects_are_followed_up_to_a_number(port: int) -> None:
    base = f"http://127.0.0.1:{port}"
    assert fetch_image(f"{base}/to?{base}/photo", HERE) == Web.content
    assert fetch_image(f"{base}/to?/photo", HERE) == Web.content
    with pytest.raises(RemoteImageError, match="more than 3 times"):
        fetch_image(f"{base}/to?/to?/to?/to?/photo", HERE)


def test_bytes_and_seconds_are_counted_while_they_come(port: int) -> None:
    base = f"http://127.0.0.1:{port}"
    assert len(fetch_image(f"{base}/big", HERE, 50_000)) == 50_001
    began = time.monotonic()
    with pytest.raises(RemoteImageError, match="cannot be reached"):
        fetch_image(f"{base}/slow", RemoteImages(frozenset(["*"]), private=True, timeout_s=0.5))
    assert time.monotonic() - began < 10


def test_a_name_that_takes_too_long_to_resolve_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3) or [])
    with pytest.raises(RemoteImageError, match="leads nowhere"):
        fetch_image("http://a.org/", RemoteImages(frozenset(["*"]), timeout_s=0.1))


def chat(address: str) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "hi"}]
    return {"model": "fake", "messages": [{"role": "user", "content": content}]}


def test_a_chat_gets_photographs_from_allowed_hosts_only(
    port: int, pipeline: Any, serve: Any
) -> None:
    limits = Limits(remote=RemoteImages(frozenset(["127.0.0.1"]), private=True, max_bytes=5_000))
    path = "/v1/chat/completions"
    with serve(pipeline, limits=limits) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert http.post(path, json=chat(f"http://127.0.0.1:{port}/photo")).status_code == 200
        for address, word in (
            (f"http://127.0.0.1:{port}/big", "more than 5,000 bytes"),
            ("http://other.example/photo", "not fetched from other.example"),
        ):
            refused = http.post(path, json=chat(address))
            assert refused.status_code == 400
            error = refused.json()["error"]
            assert word in error["message"] and error["code"] == "remote_image"
            assert error["param"] == "messages[0].content[0].image_url.url"


def test_hosts_and_limits_are_read_from_words() -> None:
    limits = read_limits(["max_tokens=9", "deadline_s = 5"], ["A.org", "*.b.org"])
    assert (limits.max_tokens, limits.deadline_s) == (9, 5)
    assert limits.remote.hosts == {"a.org", "*.b.org"} and not limits.remote.private
    for settings, hosts, word in (
        (["nope=1"], [], "no limit named 'nope'"),
        (["max_tokens=0"], [], "expected a whole number"),
        (["max_tokens"], [], "expected a whole number"),
        ([], ["http://a.org"], "no host"),
        ([], ["a.org/x"], "no host"),
    ):
        with pytest.raises(SparsightError, match=word):
            read_limits(settings, hosts)


WEB = {"httpx", "httpcore", "urllib.request", "urllib3", "requests", "aiohttp", "http.client"}
MAY = {
    "serving/remote_image.py",  # the one that fetches
    # These speak to gateways at addresses that the operator gives; no request names one.
    "serving/relay.py",
    "serving/batch/gateways.py",
}


def test_one_function_in_the_tree_fetches_addresses() -> None:
    """Whoever imports a library of the web is named here, with the reason."""
    found = set()
    for package in ("sparse_encoder", "vlm", "serving", "demo"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
                if any(name in WEB or name.split(".")[0] in WEB for name in names):
                    found.add(file.relative_to(ROOT).as_posix())
    # Engines speak to a language model at an address that the operator names.
    found = {name for name in found if not name.startswith("serving/engines/")}
    assert found == MAY
