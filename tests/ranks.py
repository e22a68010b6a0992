"""Processes of this machine that train together: ranks, each told what `accelerate launch` and torchrun tell theirs.

`LocalRanks` forks them, which is quick; `launch` starts a script as a person does, by torchrun itself.
"""

import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import torch
from torch.distributed import TCPStore

from tests.forks import FORKS

ROOT = Path(__file__).parents[1]


class LocalRanks:
    """`target(*arguments)` on so many processes, which find one another as torchrun's do."""

    def __init__(self, target: Callable[..., object], *arguments: object, n: int = 2) -> None:
        # The store is this process's, as it is torchrun's own: its port is free, and no rank waits for another's.
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        shared = {
            "WORLD_SIZE": str(n),
            "LOCAL_WORLD_SIZE": str(n),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "ACCELERATE_USE_CPU": "true",
        }
        self._said = [b""] * n
        self._ranks, self._readers = [], []
        for rank in range(n):
            # A file that takes the output would fall under the limit of a test of a full disk.
            reader, writer = FORKS.Pipe(duplex=False)
            variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = FORKS.Process(target=_run, args=(writer, variables, target, arguments))
            process.start()
            writer.close()
            self._ranks.append(process)
            self._readers.append(Thread(target=self._listen, args=(rank, reader), daemon=True))
            self._readers[-1].start()

    def wait(self, seconds: float = 300) -> None:
        """Until all have ended, or one badly: then it fails with the last that each said."""
        end = monotonic() + seconds
        while left := [rank.sentinel for rank in self._ranks if rank.exitcode is None]:
            if any(self._codes()) or not wait(left, end - monotonic()):
                break
        codes = self._codes()
        if any(code != 0 for code in codes):
            self._kill()
            said = "\n".join(text.decode(errors="replace") for text in self._said)
            raise AssertionError(f"the ranks ended with {codes} (None: not at all):\n{said}")
        self._close()

    def kill_once(self, ready: Callable[[], bool], seconds: float = 300) -> None:
        """All at once, with whatever they have started, as soon as `ready`."""
        end = monotonic() + seconds
        while not ready() and monotonic() < end:
            sleep(0.02)
        self._kill()

    def _kill(self) -> None:
        for rank in self._ranks:
            if rank.is_alive() and rank.pid is not None:
                os.killpg(rank.pid, signal.SIGKILL)
        for rank in self._ranks:
            rank.join()
        self._close()

    def _codes(self) -> list[int | None]:
        return [rank.exitcode for rank in self._ranks]

    def _close(self) -> None:
        for reader in self._readers:
            reader.join()
        for rank in self._ranks:
            rank.close()

    def _listen(self, rank: int, pipe: Connection) -> None:
        with pipe:
            while text := os.read(pipe.fileno(), 65_536):
                self._said[rank] = (self._said[rank] + text)[-20_000:]


def _run(
    writer: Connection,
    variables: dict[str, str],
    target: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    os.setsid()  # what it starts is killed with it
    os.environ.update(variables)
    for stream in (1, 2):
        os.dup2(writer.fileno(), stream)
    writer.close()
    faulthandler.enable()  # where an abort came from
    torch.set_num_threads(1)
    target(*arguments)


def launch(script: Path, code: str, words: list[str]) -> int:
    """The exit code of `code`, written to `script`, with `words` as its arguments, on two CPU ranks of torchrun."""
    script.write_text(code)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    here = {"PYTHONPATH": str(ROOT)}  # not what may be installed
    environment = {**os.environ, **here, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [*torchrun, "--nproc-per-node", "2", str(script), *words]
    return subprocess.run(command, env=environment, timeout=300).returncode
