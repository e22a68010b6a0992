"""A gateway that answers at once, and fails the way it is told to."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FINGERPRINT = "f" * 64


class FakeGateway(ThreadingHTTPServer):
    """`faults`: statuses of the next chats, 0 for a connection that breaks off."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.faults: list[int] = []
        self.always: int | None = None  # status of every chat
        self.fingerprint = FINGERPRINT
        self.n_chats = 0
        self.keys: set[str | None] = set()
        self.lock = threading.Lock()
        self.retry_after = "0"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        pass  # a client that left


@contextmanager
def gateway(port: int = 0) -> Iterator[FakeGateway]:
    server = FakeGateway(port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeGateway

    def do_GET(self) -> None:
        ours = {"fingerprint": self.server.fingerprint, "n_features": 8}
        self._say(200, {"data": [{"id": "fake", "steering": ours}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.keys.add(self.headers.get("authorization"))
            fault = self.server.faults.pop(0) if self.server.faults else self.server.always
            self.server.n_chats += fault is None
        if fault == 0:
            self.close_connection = True
            return
        if fault is not None:
            error = {"message": f"messages[0]: fault {fault}", "param": "messages[0]"}
            self._say(fault, {"error": error})
            return
        uri = body["messages"][0]["content"][0]["image_url"]["url"]
        digest = hashlib.sha256(base64.b64decode(uri.partition(",")[2])).hexdigest()
        choice = {"message": {"content": f"caption {digest[:8]}"}, "finish_reason": "stop"}
        receipt = {"images": [{"sha256": digest}], "warnings": []}
        self._say(
            200,
            {
                "choices": [choice],
                "system_fingerprint": self.server.fingerprint,
                "steering": {"receipt": receipt},
            },
        )

    def _say(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.send_header("retry-after", self.server.retry_after)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
