"""A Ray cluster: one that is there, or one on this machine for as long as the run."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sparse_encoder.errors import SparsightError

READER_CPUS = 0.25  # reading waits for disks and networks as much as it computes
ENCODER_CPUS = 0.5
SPEAKER_CPUS = 1.0


@dataclass(frozen=True)
class Cluster:
    """What is asked of it. Each encoder and speaker is an actor that holds its part of the model."""

    address: str | None = None  # None: $RAY_ADDRESS, else a cluster of its own on this machine
    encoders: int = 1
    speakers: int = 1  # language models
    speaker_gpus: float = 0.0  # of each language model; the encoder computes on CPUs

    @property
    def readers(self) -> int:
        """Processes that read and decode at once; an encoder takes longer than two of them."""
        return 2 * self.encoders

    @property
    def cpus(self) -> float:
        """What has to be free at once."""
        return READER_CPUS + self.encoders * ENCODER_CPUS + self.speakers * SPEAKER_CPUS

    @property
    def gpus(self) -> float:
        return self.speakers * self.speaker_gpus


def ray_library() -> Any:
    """The packages `ray` and `ray.data`. Raises SparsightError where they are not installed."""
    # Before it is imported, or Ray would ask to be allowed to count its users.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SparsightError(
            f"--engine ray needs Ray Data ({error.name or error} is missing): "
            "pip install 'sparsight[ray]'",
            param="engine",
            code="missing_extra",
        ) from None
    return ray


@contextmanager
def connected(asked: Cluster, say: Callable[[str], None]) -> Iterator[None]:
    """Connected while open. Raises SparsightError where there is no cluster, or it is too small.

    say: told what one may be waiting for.
    """
    ray = ray_library()
    here = asked.address is None and not os.environ.get("RAY_ADDRESS")
    logging.getLogger("ray").setLevel(logging.ERROR)
    if here:
        # Ray's workers step back for whatever else runs on a machine, by default so far that on a
        # busy one they never get to start. Here they are the run.
        os.environ.setdefault("RAY_worker_niceness", "0")
    # Of lines that a user can do nothing about, such as where an actor's arguments are kept.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray.init(
            address=None if here else asked.address,
            include_dashboard=False if here else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SparsightError(
            f"no Ray cluster at {asked.address or os.environ.get('RAY_ADDRESS') or 'this machine'}"
            f": {str(error).splitlines()[0]}",
            param="ray_address",
        ) from error
    try:
        _check(asked, ray.cluster_resources(), here, say)
        _be_quiet(ray)
        yield
    finally:
        ray.shutdown()


def _check(asked: Cluster, found: dict[str, float], here: bool, say: Callable[[str], None]) -> None:
    for key, n in (("CPU", asked.cpus), ("GPU", asked.gpus)):
        if (there := found.get(key, 0.0)) < n:
            short = (
                f"{asked.encoders} encoders and {asked.speakers} language models take {n:g} {key}s"
            )
            if here:  # nobody will add a machine to it
                raise SparsightError(
                    f"{short}, this machine has {there:g}; ask for fewer", param="ray_llms"
                )
            say(f"{short}, the cluster has {there:g}: they start as machines join it")


def _be_quiet(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the run has its own
    context.print_on_execution_start = False
    # Errors come back as exceptions or as missing rows, and are told in our words.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
