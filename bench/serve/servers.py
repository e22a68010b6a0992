"""The servers that are measured, each a process of its own on loopback."""

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serving.engines.choice import KEY_ENV
from serving.engines.vllm_child import VllmChild
from serving.engines.vllm_command import find_vllm, vllm_argv, vllm_environment
from serving.engines.vllm_http import PATH
from vlm.merged_checkpoint import cached_merged
from vlm.pipeline import Pipeline

START_S = 600.0
END_S = 30.0
_READY = re.compile(r"API:\s+(http://\S+)/v1")


@dataclass(frozen=True)
class Server:
    """One that answers. `pids`: the processes whose CPU time is spent for it."""

    url: str
    pids: tuple[int, ...]
    headers: dict[str, str] = field(default_factory=dict)
    model: str = ""  # under which name it serves, where that is not the gateway's

    @property
    def chat(self) -> str:
        return self.url + PATH


@contextmanager
def started(
    argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, also: Sequence[int] = ()
) -> Iterator[Server]:
    """A server that prints ``API:  http://.../v1``; `also`: processes that work for it.

    Raises RuntimeError with the end of its log where it ends before.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env
        )
        found: list[str] = []
        ready = threading.Event()

        def read() -> None:
            assert process.stderr is not None
            with process.stderr:
                for line in process.stderr:
                    out.write(line)
                    out.flush()
                    if match := _READY.search(line.decode("utf-8", "replace")):
                        found.append(match[1])
                        ready.set()
            ready.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            ready.wait(START_S)
            if not found:
                said = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{' '.join(argv)} did not come up: {said}")
            yield Server(found[0], (process.pid, *also))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            reader.join(END_S)


def gateway_argv(model: str, most: int) -> list[str]:
    """`sparsight serve` that takes `most` requests at once."""
    limits = [f"max_open={most}", "deadline_s=1800", "max_streams=64"]
    return [
        *("-m", "serving.cli.main", "serve", "--port", "0", "--no-demo", "--model", model),
        *(word for limit in limits for word in ("--limit", limit)),
    ]


@contextmanager
def own_gateway(model: str, most: int, log: Path) -> Iterator[Server]:
    """The gateway with the transformers engine."""
    with started([*gateway_argv(model, most), "--engine", "transformers"], log) as server:
        yield server


@contextmanager
def gateway_before(vllm: Server, model: str, most: int, log: Path) -> Iterator[Server]:
    """The gateway in front of a vLLM that runs already."""
    key = vllm.headers["authorization"].removeprefix("Bearer ")
    argv = [*gateway_argv(model, most), "--vllm-url", vllm.url]
    with started(argv, log, {**os.environ, KEY_ENV: key}, also=vllm.pids) as server:
        yield server


@contextmanager
def bare_vllm(
    python: Path, pipeline: Pipeline, log: Path, extra: Sequence[str] = ()
) -> Iterator[Server]:
    """A vLLM with the model's language model, started as the gateway would start its own."""
    install = find_vllm(python)
    if install is None:
        raise RuntimeError(f"{python} has no vLLM")
    merged = cached_merged(pipeline)
    key = secrets.token_urlsafe(16)
    child = VllmChild(
        lambda port: vllm_argv(install, merged.path, merged.served_name, port, extra),
        vllm_environment(install, key),
        log,
    )
    child.start()
    try:
        pid = child.pid
        assert pid is not None
        yield Server(child.url, (pid,), {"authorization": f"Bearer {key}"}, merged.served_name)
    finally:
        child.close()


@contextmanager
def plain_loop(model: str, log: Path) -> Iterator[Server]:
    """The loop that one would write first."""
    with started(["-m", "bench.serve.plain_loop", "--model", model], log) as server:
        yield server
