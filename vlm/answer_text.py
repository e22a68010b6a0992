"""Tokens of one answer to text, with stop strings, piece by piece."""

from typing import Any, Literal

from vlm.sampling import TokenLogprob

FinishReason = Literal["stop", "length"]


class Piece(str):
    """Text of a stream, with what is told of its tokens, where that was asked for."""

    logprobs: tuple[TokenLogprob, ...]

    def __new__(cls, text: str, logprobs: tuple[TokenLogprob, ...]) -> "Piece":
        piece = super().__new__(cls, text)
        piece.logprobs = logprobs
        return piece


class AnswerText:
    """Grows with each token. `text` never holds a stop string or a broken character's half."""

    def __init__(self, tokenizer: Any, end: int, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._end = end
        self._stop = tuple(s for s in stop if s)
        self._tokens: list[int] = []
        self._sent = 0
        self._told: list[TokenLogprob] = []
        self._n_told = 0  # of them, how many `fresh` has given
        self.n_tokens = 0  # the end token included, as OpenAI counts
        self.text = ""
        self.finish: FinishReason | None = None

    def add(self, token: int, logprob: TokenLogprob | None = None) -> None:
        """Takes one token; afterwards `finish` is "stop" where the answer has ended."""
        self.n_tokens += 1
        if token == self._end:
            self.finish = "stop"
        else:
            self._tokens.append(token)
            if logprob is not None:
                self._told.append(logprob)
            self.text = self._decoded(len(self._tokens))
        found = [at for s in self._stop if (at := self.text.find(s)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.finish = "stop"
            self._told = self._told[: self._n_needed()]

    def close(self) -> None:
        """Ends the answer for want of tokens."""
        self.finish = self.finish or "length"

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Of each token of `text`, the end mark left out."""
        return tuple(self._told)

    def fresh(self) -> Piece:
        """Text that has come since the last call and can no longer change."""
        until = len(self.text)
        if self.finish is None:
            if self.text.endswith("\ufffd"):  # a character still short of bytes
                until = len(self.text.rstrip("\ufffd"))
            until = min(until, len(self.text) - self._held())
        piece = self.text[self._sent : until]
        self._sent = max(self._sent, until)
        if self.finish is None and not piece:
            return Piece("", ())  # what is told of a token comes with its text
        told = tuple(self._told[self._n_told :])
        self._n_told = max(self._n_told, len(self._told))
        return Piece(piece, told)

    def _n_needed(self) -> int:
        """How many tokens `text` takes, once it was cut."""
        n = len(self._tokens)
        while n and len(self._decoded(n - 1)) >= len(self.text):
            n -= 1
        return n

    def _decoded(self, n: int) -> str:
        text: str = self._tokenizer.decode(self._tokens[:n], skip_special_tokens=True)
        return text

    def _held(self) -> int:
        """Length of the longest end of `text` that may become a stop string."""
        longest = 0
        for stop in self._stop:
            for n in range(1, len(stop)):
                if self.text.endswith(stop[:n]):
                    longest = max(longest, n)
        return longest
