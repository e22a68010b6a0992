"""A stand-in for vLLM's server: its routes and its wire format, and answers made by rule.

Standard library only, so that it starts at once. Run as a program it takes vLLM's options; in a
test's own process `FakeVllm` shows what it was sent. The first word of the last text chooses how
it fails. It counts tokens as the tiny tokenizer does: one a byte, one a mark.
"""

import base64
import contextlib
import io
import json
import os
import socket
import struct
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HIDDEN = 32  # of the tiny model


class FakeVllm(ThreadingHTTPServer):
    """`answer(messages, blocks, body) -> text` may replace the rule; blocks: rows of floats."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # of 5, many clients at once would find the connection reset

    def __init__(self, name, port=0, key=None, answer=None):
        super().__init__(("127.0.0.1", port), _Handler)
        self.name, self.key = name, key
        self.answer = answer or by_rule
        self.bodies = []
        self.connections = []
        self.health = 200
        self.n_left = 0  # streams whose reader left
        self.pause_s = 0.0
        self.die = None  # what "crash" does, None: cuts the connection
        self.logprobs = None  # (text) -> what is told of its tokens
        self.thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self.thread.join(5)
        # A process that ends takes its open connections with it.
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, *_):
        pass


def by_rule(messages, blocks, body):
    text = last_text(messages)
    return f"{len(blocks)} blocks of {[len(b) for b in blocks]} rows, asked {text}"


def last_text(messages):
    content = messages[-1]["content"]
    return content if isinstance(content, str) else content[-1].get("text", "")


def read_rows(data):
    """Rows (tokens, HIDDEN) of a float32 tensor in torch's file format."""
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(data))) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("/data/0")]
        raw = archive.read(name)
    flat = struct.unpack(f"<{len(raw) // 4}f", raw)
    return [flat[i : i + HIDDEN] for i in range(0, len(flat), HIDDEN)]


def read_messages(messages):
    """(blocks, number of prompt tokens)"""
    blocks, n = [], 1 + len("assistant\n")
    for message in messages:
        n += 3 + len(message["role"]) + 1
        parts = message["content"]
        parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
        n += len(parts) - 1
        for part in parts:
            if part["type"] == "text":
                n += len(part["text"].encode())
            else:
                blocks.append(read_rows(part["data"]))
                n += len(blocks[-1])
    return blocks, n


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/health":
            self._json(self.server.health, {})
        elif self._allowed():
            self._json(200, {"object": "list", "data": [{"id": self.server.name}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._allowed():
            return
        self.server.bodies.append(body)
        blocks, n_prompt = read_messages(body["messages"])
        order = (last_text(body["messages"]).split() or [""])[0]
        if order in ("refuse", "busy", "fault", "unknown"):
            status = {"refuse": 400, "busy": 503, "fault": 500, "unknown": 404}[order]
            kind = self.responses[status][0]
            self._json(status, {"error": {"message": "secret", "type": kind, "code": status}})
        elif order == "garbage":
            self._raw(200, b"secret {")
        elif order == "crash" and not body.get("stream"):
            self._crash()
        else:
            usage = {"prompt_tokens": n_prompt - (order == "miscount")}
            finish = "abort" if order == "abort" else "stop"
            text = self.server.answer(body["messages"], blocks, body)
            if body.get("stream"):
                self._stream(text, usage, finish, order)
            else:
                usage["completion_tokens"] = len(text.split())
                choice = {"index": 0, "message": {"content": text}, "finish_reason": finish}
                choice |= self._told(text)
                self._json(200, {"choices": [choice], "usage": usage})

    def _stream(self, text, usage, finish, order):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        words = text.split(" ")
        try:
            self._event({"role": "assistant", "content": ""}, usage, 0)
            for i, word in enumerate(words):
                time.sleep(self.server.pause_s)
                piece = f" {word}" if i else word
                self._event({"content": piece}, usage, i + 1, **self._told(piece))
                if order == "crash":
                    return self._crash()
                if order == "broken":
                    self._line({"error": {"message": "secret"}})
                    break
                if order == "short":
                    return None
            self._event({}, usage, len(words), finish)
            total = {**usage, "completion_tokens": len(words)}
            self._line({"choices": [], "usage": total})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.n_left += 1

    def _told(self, text):
        known = self.server.logprobs
        return {} if known is None else {"logprobs": {"content": known(text)}}

    def _event(self, delta, usage, n, finish=None, **more):
        choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
        self._line({"choices": [choice], "usage": {**usage, "completion_tokens": n}})

    def _line(self, event):
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def _crash(self):
        if self.server.die is not None:
            self.server.die()
        self.close_connection = True
        self.connection.shutdown(2)

    def _allowed(self):
        if self.server.key and self.headers.get("authorization") != f"Bearer {self.server.key}":
            self._json(401, {"error": "Unauthorized"})
            return False
        return True

    def _json(self, status, content):
        self._raw(status, json.dumps(content).encode())

    def _raw(self, status, content):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main(argv):
    options = dict(zip(argv[:-1], argv[1:], strict=True))
    if "--fail" in options:
        sys.exit(options["--fail"])
    server = FakeVllm(
        options["--served-model-name"], int(options["--port"]), os.environ["VLLM_API_KEY"]
    )
    server.die = lambda: os._exit(1)
    sys.stdout.write(f"fake vLLM with {' '.join(argv)}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
