"""Log-probabilities as vLLM tells them, as our own: by token id, likeliest first.

vLLM puts the drawn token before the likeliest ones and cuts the list there, so one more is asked for
than is told. It tells of the mark that ends an answer and of tokens that a stop text cut off, too;
``AnswerText`` leaves those out, as it does for transformers.
"""

from typing import Any

from serving.engines.faults import no_answer
from vlm.answer_text import AnswerText
from vlm.sampling import TokenLogprob

# What vLLM is started with: the most that a request may ask for, 20, and the drawn token.
MAX_LOGPROBS = 21
_ID = "token_id:"  # how a token is named where return_tokens_as_token_ids is set


def logprobs_body(n_top: int) -> dict[str, Any]:
    """What a body has to say to be told the `n_top` likeliest tokens at each place."""
    n = n_top + 1 if n_top else 0
    return {"logprobs": True, "top_logprobs": n, "return_tokens_as_token_ids": True}


class Spelled:
    """One answer put together from its tokens, each with its log-probability."""

    def __init__(self, text: AnswerText, n_top: int) -> None:
        self.text = text
        self._n_top = n_top

    def add(self, choice: dict[str, Any]) -> None:
        """Takes the tokens of a choice, or of a stream's event. Raises EngineFailedError."""
        try:
            told = (choice.get("logprobs") or {}).get("content") or []
            for one in told:
                self.text.add(_token(one), self._read(one))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise no_answer("its log-probabilities cannot be read") from None

    def check(self, said: str) -> None:
        """Raises EngineFailedError unless the tokens spell what vLLM said."""
        # A character that the last token left half is marked by us and left out by vLLM.
        if self.text.text.rstrip("\ufffd") != said.rstrip("\ufffd"):
            raise no_answer("its log-probabilities are of another text")

    def _read(self, one: dict[str, Any]) -> TokenLogprob:
        pairs = [(_token(other), float(other["logprob"])) for other in one["top_logprobs"]]
        ranked = sorted(pairs, key=lambda pair: -pair[1])[: self._n_top]
        return TokenLogprob(_token(one), float(one["logprob"]), tuple(ranked))


def _token(one: dict[str, Any]) -> int:
    name = one["token"]
    if not name.startswith(_ID):
        raise ValueError(name)
    return int(name.removeprefix(_ID))
