"""From pipeline to wire: answers as OpenAI's objects and events.

Chunks of a stream: the role, the text piece by piece, the reason it ended, for each of the `n`
answers; then, where asked for, the token counts in a chunk without choices. The receipt is in the
last of them.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from serving.chat.answer_wire import (
    AnswerMessage,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    Logprob,
    Logprobs,
    Steering,
    TopLogprob,
    Usage,
)
from serving.chat.wire import ChatRequest
from vlm.answer_text import Piece
from vlm.pipeline import Answer, Pipeline
from vlm.sampling import TokenLogprob
from vlm.token_text import token_bytes


@dataclass(frozen=True)
class Reply:
    """Puts one request's answers into wire form, under one id and time."""

    model: str
    fingerprint: str
    tokenizer: Any  # names the tokens of log-probabilities
    with_logprobs: bool
    with_usage: bool  # in a stream
    id: str
    created: int  # seconds since 1970

    @classmethod
    def of(cls, pipeline: Pipeline, body: ChatRequest) -> "Reply":
        options = body.stream_options
        return cls(
            model=pipeline.name,
            fingerprint=pipeline.fingerprint,
            tokenizer=pipeline.tokenizer,
            with_logprobs=body.logprobs,
            with_usage=options is not None and options.include_usage,
            id=f"chatcmpl-{uuid4().hex}",
            created=int(time.time()),
        )

    def completion(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The JSON of whole answers to one request."""
        whole = ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=[
                Choice(
                    index=i,
                    message=AnswerMessage(content=answer.text),
                    logprobs=self._logprobs(answer.logprobs),
                    finish_reason=answer.finish_reason,
                )
                for i, answer in enumerate(answers)
            ],
            usage=_usage(answers),
            system_fingerprint=self.fingerprint,
            steering=_steering(answers[0]),
        )
        return whole.model_dump(exclude={"steering"} if whole.steering is None else None)

    def opening(self, i: int) -> str:
        """The first event of answer i."""
        return self._event([ChunkChoice(index=i, delta=Delta(role="assistant", content=""))])

    def piece(self, i: int, text: str) -> str:
        """An event with the next piece of answer i."""
        told = self._logprobs(text.logprobs) if isinstance(text, Piece) else None
        return self._event([ChunkChoice(index=i, delta=Delta(content=text), logprobs=told)])

    def end(self, i: int, answer: Answer, last: bool) -> str:
        """The event that ends answer i; `last` of all."""
        choice = ChunkChoice(index=i, delta=Delta(), finish_reason=answer.finish_reason)
        steering = _steering(answer) if last and not self.with_usage else None
        return self._event([choice], steering=steering)

    def ending(self, answers: Sequence[Answer]) -> Iterator[str]:
        """The last events, once all answers have ended."""
        if self.with_usage:
            yield self._event([], usage=_usage(answers), steering=_steering(answers[0]))
        yield "data: [DONE]\n\n"

    def _event(
        self,
        choices: list[ChunkChoice],
        *,
        usage: Usage | None = None,
        steering: Steering | None = None,
    ) -> str:
        chunk = ChatChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=usage,
            system_fingerprint=self.fingerprint,
            steering=steering,
        )
        # OpenAI's streams have a usage of null in every chunk but the last, if it was asked for.
        absent = {key for key in ("usage", "steering") if getattr(chunk, key) is None}
        data = chunk.model_dump_json(exclude=absent - {"usage"} if self.with_usage else absent)
        return f"data: {data}\n\n"

    def _logprobs(self, told: Sequence[TokenLogprob]) -> Logprobs | None:
        if not self.with_logprobs:
            return None
        return Logprobs(
            content=[
                Logprob(
                    **self._token(one.token, one.logprob),
                    top_logprobs=[TopLogprob(**self._token(*pair)) for pair in one.top],
                )
                for one in told
            ]
        )

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        content = token_bytes(self.tokenizer, token)
        text = content.decode("utf-8", "replace")
        return {"token": text, "logprob": logprob, "bytes": list(content)}


def _usage(answers: Sequence[Answer]) -> Usage:
    prompt = answers[0].n_prompt_tokens  # read once for all of them
    completion = sum(answer.n_completion_tokens for answer in answers)
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


def _steering(answer: Answer) -> Steering | None:
    return None if answer.receipt is None else Steering(receipt=answer.receipt.to_json())
