"""Other forms of the journal's results, each made so that a killed run leaves it whole."""

from typing import Protocol

from serving.batch.result import Result


class Sink(Protocol):
    """Takes each result with outputs once, in the journal's order."""

    needs_data: bool  # whether `before` wants the photograph's bytes

    def refuses(self, name: str) -> str | None:
        """Why this photograph's result cannot be taken, where that is plain before captioning."""

    def before(self, result: Result, data: bytes | None) -> str | None:
        """Called before the result stands in the journal; a reason makes it a failure instead.

        May come a second time with the same result, where a run was killed in between.
        """

    def after(self, result: Result) -> None:
        """Called once the result stands in the journal."""

    def close(self) -> None:
        """Everything that was taken is on the disk when this returns."""
