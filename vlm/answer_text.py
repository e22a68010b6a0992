"""Tokens of one answer to text, with stop strings, piece by piece."""

from typing import Any, Literal

FinishReason = Literal["stop", "length"]


class AnswerText:
    """Grows with each token. `text` never holds a stop string or a broken character's half."""

    def __init__(self, tokenizer: Any, end: int, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._end = end
        self._stop = tuple(s for s in stop if s)
        self._tokens: list[int] = []
        self._sent = 0
        self.n_tokens = 0  # the end token included, as OpenAI counts
        self.text = ""
        self.finish: FinishReason | None = None

    def add(self, token: int) -> None:
        """Takes one token; afterwards `finish` is "stop" where the answer has ended."""
        self.n_tokens += 1
        if token == self._end:
            self.finish = "stop"
        else:
            self._tokens.append(token)
            self.text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        found = [at for s in self._stop if (at := self.text.find(s)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.finish = "stop"

    def close(self) -> None:
        """Ends the answer for want of tokens."""
        self.finish = self.finish or "length"

    def fresh(self) -> str:
        """Text that has come since the last call and can no longer change."""
        until = len(self.text)
        if self.finish is None:
            if self.text.endswith("\ufffd"):  # a character still short of bytes
                until = len(self.text.rstrip("\ufffd"))
            until = min(until, len(self.text) - self._held())
        piece = self.text[self._sent : until]
        self._sent = max(self._sent, until)
        return piece

    def _held(self) -> int:
        """Length of the longest end of `text` that may become a stop string."""
        longest = 0
        for stop in self._stop:
            for n in range(1, len(stop)):
                if self.text.endswith(stop[:n]):
                    longest = max(longest, n)
        return longest
