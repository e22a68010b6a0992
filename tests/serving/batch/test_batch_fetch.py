"""Web addresses, against a server on this machine."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serving.batch.fetch import fetch
from sparse_encoder.errors import SparsightError

NO_PAUSE = (0.0, 0.0)


class Answers(BaseHTTPRequestHandler):
    """/N answers with status N, /moved leads to /200, /second works at the second try."""

    tries = 0

    def do_GET(self) -> None:
        word = self.path.strip("/")
        if word == "moved":
            self.send_response(302)
            self.send_header("Location", "/200")
            self.end_headers()
            return
        type(self).tries += 1
        status = int(word) if word.isdecimal() else (200 if type(self).tries > 1 else 503)
        self.send_response(status)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"x" * 100)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    Answers.tries = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_address_gives_its_bytes_through_redirects(web: str) -> None:
    assert fetch(f"{web}/200", 1000) == b"x" * 100
    assert fetch(f"{web}/moved", 1000) == b"x" * 100


def test_no_more_is_taken_than_shows_that_it_is_too_much(web: str) -> None:
    assert fetch(f"{web}/200", 10) == b"x" * 11


def test_a_busy_server_is_asked_again_and_a_missing_page_is_not(web: str) -> None:
    assert len(fetch(f"{web}/second", 1000, pauses_s=NO_PAUSE)) == 100
    assert Answers.tries == 2
    with pytest.raises(SparsightError, match="404"):
        fetch(f"{web}/404", 1000, pauses_s=NO_PAUSE)
    assert Answers.tries == 3


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("http://127.0.0.1:9/x", "cannot be reached"),
        ("http://", "not a web address"),
        ("nosuch://x", "cannot be opened"),
    ],
)
def test_an_address_that_leads_nowhere_says_so(address: str, word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        fetch(address, 10, pauses_s=NO_PAUSE)


def test_a_server_that_stays_busy_is_given_up_with_the_number_of_tries(web: str) -> None:
    with pytest.raises(SparsightError, match="503.*3 tries"):
        fetch(f"{web}/503", 10, pauses_s=NO_PAUSE)
