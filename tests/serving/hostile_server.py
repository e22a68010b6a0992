"""A server process for the tests of faults: ``python hostile_server.py MODE PORT_FILE``.

MODE ``model``: a tiny model, remote images allowed from any host. MODE a number: a fake,
with that many seconds before each piece of a stream. Whatever it connects to, or asks a resolver for, goes to standard output.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

NAMES = {
    "inner.example": ["127.0.0.1"],
    "localhost": ["127.0.0.1"],
    "mixed.example": ["93.184.215.14", "10.0.0.1"],
    "meta.example": ["169.254.169.254"],
    "metadata.google.internal": ["169.254.169.254"],
}


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        os.write(1, f"connect {arguments[1]}\n".encode())
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        os.write(1, f"resolve {arguments[0]}\n".encode())


def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
    """Knows a few names; numbers are read as the C library reads them, nothing is asked."""
    try:
        found = NAMES.get(host) or [str(ipaddress.ip_address(host))]
    except ValueError:
        try:
            found = [socket.inet_ntoa(socket.inet_aton(host))]  # 0x7f.1 and its like
        except OSError:
            raise socket.gaierror(8, "no such name") from None
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]


def main(mode: str, port_file: str) -> None:
    from serving.app import create_app
    from serving.launch import bind, run
    from serving.limits import Limits
    from serving.remote_image import RemoteImages

    pipeline: Any
    if mode == "model":
        from tests.tiny_model import tiny_pipeline

        pipeline = tiny_pipeline()
    else:
        from conftest import FakePipeline

        pipeline = FakePipeline()
        pipeline.pause_s = float(mode)
    limits = Limits(
        max_tokens=2_000,
        max_open=512,
        body_s=2,
        deadline_s=60,
        max_streams=64,
        remote=RemoteImages(frozenset(["*"])),
    )
    bound = bind("127.0.0.1", 0)
    app = create_app(pipeline, limits=limits)
    socket.getaddrinfo = getaddrinfo
    sys.addaudithook(watch)

    def ready() -> None:
        aside = Path(port_file + ".new")
        aside.write_text(str(bound.getsockname()[1]))
        os.replace(aside, port_file)

    run(app, bound, ready, grace_s=4)


if __name__ == "__main__":
    main(*sys.argv[1:])
