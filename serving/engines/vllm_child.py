"""A vLLM of our own on loopback: started, watched, started again when it ends, and ended with us.

One thread does all of that. The process leads a session of its own, so that Ctrl-C reaches the
gateway alone and ending it ends its workers too; on Linux it is also told to end should the gateway
be killed outright.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from serving.engines.vllm_log import plain_words
from sparse_encoder.errors import SparsightError
from sparse_encoder.wheel import Progress

logger = logging.getLogger(__name__)

START_S = 600.0  # compiling on a slow machine takes minutes
SICK_S = 30.0  # alive but not healthy for so long: started again
GRACE_S = 10.0  # between the polite signal and the other one
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)  # before the 1st, 2nd, ... start in a row that failed
KEPT_LOGS = 3

# Asks Linux for SIGTERM when the parent dies, then becomes vLLM.
_TIED = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
)


class EngineStartError(SparsightError):
    """vLLM could not be started; the message says why in plain words."""

    code = "engine_start_failed"


class VllmChild:
    """Owns the process from `start` to `close`. `argv(port)` is its command line."""

    def __init__(
        self,
        argv: Callable[[int], Sequence[str]],
        env: Mapping[str, str],
        log: Path,
        *,
        start_s: float = START_S,
        back_off_s: Sequence[float] = BACK_OFF_S,
    ) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.n_restarts = 0
        self.last_fault = ""
        self._argv, self._env = argv, env
        self._start_s, self._back_off_s = start_s, back_off_s
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._first: SparsightError | None = None
        self._settled = threading.Event()  # came up, or failed, for the first time
        self._thread = threading.Thread(target=self._run, name="vllm-child", daemon=True)

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self, progress: Progress | None = None) -> None:
        """Returns once it answers. Raises EngineStartError when the first start fails."""
        if progress is not None:
            progress(f"starting vLLM, its log is {self.log}", None)
        self._thread.start()
        try:
            self._settled.wait()
        except BaseException:  # Ctrl-C while it starts
            self.close()
            raise
        if self._first is not None:
            self._thread.join(GRACE_S)
            raise self._first

    def close(self) -> None:
        """Ends the process, politely first."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2 * GRACE_S)

    # From here on: the child's thread.

    def _run(self) -> None:
        n_failed = 0
        while not self._closing.is_set():
            fault = self._one_life()
            if self._closing.is_set():
                break
            self.last_fault = fault
            if not self._settled.is_set():  # a fault of the set-up: trying again would not help
                self._first = EngineStartError(fault, param="engine")
                break
            n_failed = 1 if self._was_up else n_failed + 1
            self.n_restarts += 1
            wait = self._back_off_s[min(n_failed, len(self._back_off_s)) - 1]
            logger.error("%s; it is started again in %g s", fault, wait)
            self._closing.wait(wait)
        self._settled.set()

    def _one_life(self) -> str:
        """Starts the process and stays with it; what ended it, in plain words."""
        self._was_up = False
        _rotate(self.log)
        try:
            self._process = self._spawn()
        except OSError as error:
            return f"vLLM could not be started: {error}"
        try:
            return self._watch(self._process)
        finally:
            _end(self._process)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        argv = list(self._argv(self.port))
        if sys.platform == "linux":
            argv = [sys.executable, "-c", _TIED, *argv]
        with self.log.open("wb") as out:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(self._env),
                start_new_session=True,
            )

    def _watch(self, process: "subprocess.Popen[bytes]") -> str:
        deadline = time.monotonic() + self._start_s
        with httpx.Client(timeout=3.0, trust_env=False) as http:
            while not self._closing.wait(0.1 if not self._was_up else 0.5):
                code = process.poll()
                if code is not None:
                    return plain_words(self.log, code)
                if _healthy(http, self.url):
                    self._was_up = True
                    self._settled.set()
                    deadline = time.monotonic() + SICK_S
                elif time.monotonic() > deadline:
                    if self._was_up:
                        return f"vLLM was not healthy for {SICK_S:g} s. Its log is {self.log}"
                    return plain_words(self.log, None)
        return "it was closed"

    _was_up = False


def _healthy(http: httpx.Client, url: str) -> bool:
    try:
        return http.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The process and all that it started."""
    for sign, wait in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
            if sign == signal.SIGKILL or not _group_lives(process.pid):
                return


def _group_lives(group: int) -> bool:
    """Whether workers are left of a process that has ended; given a moment to follow it."""
    for _ in range(20):
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return False
        time.sleep(0.1)
    return True


def _rotate(log: Path) -> None:
    """Keeps the logs of the last lives: vllm.log, vllm.log.1, ..."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for n in range(KEPT_LOGS - 1, 0, -1):
        older = log if n == 1 else log.with_name(f"{log.name}.{n - 1}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{n}"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
