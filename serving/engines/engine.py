"""What the gateway needs of an engine.

Two have it: ``serving.batching.Worker`` (transformers, in this process; the reference) and
``serving.engines.vllm_engine.VllmEngine``. The same greedy request gives the same answer from both.
"""

from collections.abc import Callable
from typing import Protocol

from serving.answer_stream import AnswerStream
from serving.batching import Worker
from vlm.pipeline import Answer, Request


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
        """The answer in pieces. Raises OverloadedError when too much is open, now or at its start."""

    def refuse(self) -> None:
        """From any thread: what is open ends with OverloadedError, and so does what still comes."""

    async def aclose(self) -> None:
        """`refuse`, and ends what the engine started."""


# The worker owns the pipeline, so an engine that needs codes and soft tokens is made around it.
EngineMaker = Callable[[Worker], Engine]
