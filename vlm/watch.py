"""Who is told what a pipeline does, so that a server can count it; the pipeline knows no more."""


class Watch:
    """Does nothing with what it is told. Called on the pipeline's thread, so quickly."""

    def encoded(self, seconds: float) -> None:
        """One image went through the encoder."""

    def recalled(self) -> None:
        """One image's codes were still there."""

    def edited(self, op: str) -> None:
        """One edit was made."""

    def generated(self, seconds: float, n_tokens: int) -> None:
        """The language model wrote so many tokens, of one answer or of a batch."""
