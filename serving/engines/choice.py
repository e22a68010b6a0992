"""Which engine a server gets: what was asked for, or what is there."""

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serving.batching import Worker
from serving.engines.engine import EngineMaker
from serving.engines.pool import Pool
from serving.engines.vllm_child import VllmChild
from serving.engines.vllm_command import VllmInstall, find_vllm, vllm_argv, vllm_environment
from serving.engines.vllm_engine import VllmEngine
from serving.limits import Limits
from sparse_encoder.errors import SparsightError
from sparse_encoder.parts import cache_dir
from sparse_encoder.wheel import Progress
from vlm.merged_checkpoint import cached_merged, served_name
from vlm.pipeline import Pipeline

EngineName = Literal["vllm", "transformers", "auto"]
KEY_ENV = "SPARSIGHT_VLLM_KEY"  # the API key of servers named by --vllm-url


@dataclass(frozen=True)
class EngineOptions:
    """As ``sparsight serve`` takes them."""

    engine: EngineName = "auto"
    urls: tuple[str, ...] = ()  # vLLM servers that others started
    python: Path | None = None  # the interpreter that has vLLM; None: this one
    arguments: tuple[str, ...] = ()  # further options of a vLLM that is started here

    def __post_init__(self) -> None:
        if self.engine == "transformers" and (self.urls or self.python or self.arguments):
            raise SparsightError(
                "--engine transformers runs no vLLM; leave out the --vllm options", param="engine"
            )
        if self.urls and (self.python or self.arguments):
            raise SparsightError(
                "--vllm-url uses servers that run already, so --vllm-python and --vllm-arg would "
                "do nothing; leave them out",
                param="vllm_url",
            )


@dataclass(frozen=True)
class ChosenEngine:
    """What `sparsight serve` says at its start, and what makes the engine (None: the worker)."""

    name: str
    why: str
    maker: EngineMaker | None


def choose_engine(
    options: EngineOptions,
    pipeline: Pipeline,
    limits: Limits,
    *,
    log_name: str = "vllm.log",
    progress: Progress | None = None,
) -> ChosenEngine:
    """The engine, ready to answer: a vLLM of our own is started, others' are asked.

    Raises SparsightError where what was asked for cannot be had: another engine is never taken in
    its place.
    """
    if options.urls:
        return _of_servers(options.urls, pipeline, limits)
    if options.engine == "transformers":
        return ChosenEngine("transformers", "asked for", None)
    python = options.python or Path(sys.executable)
    install = find_vllm(python)
    if install is None:
        if options.engine == "auto" and options.python is None:
            return ChosenEngine("transformers", "vLLM is not installed here", None)
        raise SparsightError(
            f"{python} has no vLLM; `pip install 'sparsight[cuda]'` on a machine with a GPU, or "
            "name the interpreter of another environment by --vllm-python",
            param="engine",
        )
    return _of_child(install, options.arguments, pipeline, limits, log_name, progress)


def _of_servers(urls: Sequence[str], pipeline: Pipeline, limits: Limits) -> ChosenEngine:
    pool = Pool(
        urls, served_name(pipeline.name, pipeline.fingerprint), os.environ.get(KEY_ENV) or None
    )
    pool.check_all()
    if not pool.any_up:
        pool.close()
        raise SparsightError(f"no vLLM server can be used: {pool.why_down()}", param="vllm_url")
    pool.start()
    down = pool.why_down()
    why = f"{len(urls)} by --vllm-url" + (f"; not up yet: {down}" if down else "")
    return ChosenEngine("vllm", why, lambda worker: VllmEngine(worker, pool, limits))


def _of_child(
    install: VllmInstall,
    arguments: Sequence[str],
    pipeline: Pipeline,
    limits: Limits,
    log_name: str,
    progress: Progress | None,
) -> ChosenEngine:
    merged = cached_merged(pipeline, progress)
    key = secrets.token_urlsafe(32)
    child = VllmChild(
        lambda port: vllm_argv(install, merged.path, merged.served_name, port, arguments),
        vllm_environment(install, key),
        cache_dir() / "logs" / log_name,
    )
    child.start(progress)
    try:
        pool = Pool([child.url], merged.served_name, key)
        pool.check_all()
        if not pool.any_up:
            raise SparsightError(f"vLLM was started but cannot be used: {pool.why_down()}")
        pool.start()
    except BaseException:
        child.close()
        raise

    def make(worker: Worker) -> VllmEngine:
        return VllmEngine(worker, pool, limits, on_close=child.close)

    return ChosenEngine("vllm", f"version {install.version}, log {child.log}", make)
