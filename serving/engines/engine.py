"""What the gateway needs of an engine.

Two have it: ``serving.batching.Worker`` (transformers, in this process; the reference) and
``serving.engines.vllm_engine.VllmEngine``. The same greedy request gives the same answer from both.
"""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from serving.batching import Worker
from vlm.pipeline import Answer, Request


class AnswerStream(Protocol):
    """One streamed answer: text pieces, then the Answer. It has to be read or cancelled."""

    def __aiter__(self) -> AsyncIterator[str | Answer]:
        """Each item as it is made. Raises what ended it early."""

    def cancel(self) -> None:
        """Nobody listens any more: the rest is not generated."""


class Engine(Protocol):
    """Answers requests; belongs to one event loop."""

    @property
    def name(self) -> str:
        """As ``--engine`` has it."""

    @property
    def alive(self) -> bool:
        """Whether a request sent now can be answered."""

    @property
    def n_open(self) -> int:
        """Requests accepted and not yet answered."""

    async def answer(self, request: Request) -> Answer:
        """The whole answer. Raises SparsightError; cancelling the task ends the generation."""

    def stream(self, request: Request) -> AnswerStream:
        """The answer in pieces. Raises OverloadedError when too much is open."""

    async def aclose(self) -> None:
        """Ends what the engine started; what is open is refused."""


# The worker owns the pipeline, so an engine that needs codes and soft tokens is made around it.
EngineMaker = Callable[[Worker], Engine]
