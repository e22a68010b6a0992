"""What vLLM's completions say, as the pipeline's own answers.

Each is checked against what was asked: the number of prompt tokens that vLLM read has to be ours. A
template that dropped the soft tokens, or another tokenizer, would otherwise give a fluent answer to
another question.
"""

from typing import Any

from serving.engines.faults import no_answer
from serving.engines.vllm_logprobs import Spelled
from vlm.answer_text import FinishReason
from vlm.pipeline import Answer, SoftPrompt
from vlm.sampling import TokenLogprob


def read_answer(whole: dict[str, Any], asked: SoftPrompt, spelled: Spelled | None = None) -> Answer:
    """The answer in a chat completion. Raises EngineFailedError for anything else.

    spelled: where log-probabilities were asked for.
    """
    try:
        (choice,) = whole["choices"]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        n_completion = whole["usage"]["completion_tokens"]
    except (KeyError, TypeError, ValueError):
        raise no_answer("keys are missing in it") from None
    check_prompt(whole, asked)
    if not isinstance(text, str) or not isinstance(n_completion, int):
        raise no_answer("it holds no text")
    reason = finish_reason(finish)
    told: tuple[TokenLogprob, ...] = ()
    if spelled is not None:
        spelled.add(choice)
        spelled.check(text)
        told = spelled.text.logprobs
    return Answer(text, reason, asked.n_tokens, n_completion, asked.receipt, told)


class StreamedAnswer:
    """Grows with each streamed event. `spelled`: where log-probabilities were asked for."""

    def __init__(self, asked: SoftPrompt, spelled: Spelled | None = None) -> None:
        self._asked = asked
        self._spelled = spelled
        self._pieces: list[str] = []
        self._finish: str | None = None
        self._n_completion = 0
        self._checked = False

    def add(self, event: dict[str, Any]) -> str:
        """The piece of text in an event, "" where it has none. Raises EngineFailedError.

        With log-probabilities a Piece, which waits until its tokens are all there.
        """
        if event.get("usage"):
            check_prompt(event, self._asked)
            self._checked = True
            self._n_completion = int(event["usage"].get("completion_tokens") or 0)
        piece = ""
        try:
            for choice in event["choices"]:
                piece += choice["delta"].get("content") or ""
                if self._spelled is not None:
                    self._spelled.add(choice)
                self._finish = choice.get("finish_reason") or self._finish
        except (KeyError, TypeError, AttributeError):
            raise no_answer("an event of its stream has keys missing") from None
        self._pieces.append(piece)
        if self._spelled is not None:
            piece = self._spelled.text.fresh()
        if piece and not self._checked:
            raise no_answer("its stream does not count the tokens of the prompt")
        return piece

    def rest(self) -> str:
        """After the last event: what waited for more, "" where nothing did."""
        if self._spelled is None:
            return ""
        self._spelled.text.close()
        return self._spelled.text.fresh()

    def whole(self) -> Answer:
        """After the last event. Raises EngineFailedError where the stream was not whole."""
        if not self._checked:
            raise no_answer("its stream does not count the tokens of the prompt")
        finish = finish_reason(self._finish)
        text = "".join(self._pieces)
        told: tuple[TokenLogprob, ...] = ()
        if self._spelled is not None:
            self._spelled.check(text)
            told = self._spelled.text.logprobs
        n = self._n_completion
        return Answer(text, finish, self._asked.n_tokens, n, self._asked.receipt, told)


def check_prompt(said: dict[str, Any], asked: SoftPrompt) -> None:
    """Raises EngineFailedError unless vLLM read as many prompt tokens as were meant."""
    usage = said.get("usage")
    n = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if n != asked.n_tokens:
        raise no_answer(
            f"it read {n} prompt tokens, {asked.n_tokens} were sent. Its checkpoint has another "
            "chat template or tokenizer than this model; serve the one that `sparsight export` "
            "writes"
        )


def finish_reason(said: object) -> FinishReason:
    """Raises EngineFailedError for a reason that is none of ours, such as an abort."""
    if said == "stop":
        return "stop"
    if said == "length":
        return "length"
    raise no_answer(f"it ended for the reason {str(said)[:40]!r}")
