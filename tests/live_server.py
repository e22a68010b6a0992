"""A real server of an application, on a thread, for tests that speak HTTP to it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from serving.launch import address, bind


@contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The address of a live server over this application; port 0: a free one."""
    bound = bind("127.0.0.1", port)
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        yield address(bound)
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()
