"""How an answer is drawn from the model's logits, and what is told of each token."""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Below this an answer is greedy, as in vLLM: logits over it would overflow.
LEAST_TEMPERATURE = 1e-5


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. temperature 0 takes the likeliest (greedy)."""

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None  # likeliest tokens told beside each chosen one; None: nothing
    json_schema: str | None = None  # the answer is JSON of this schema, itself JSON
    frequency_penalty: float = 0.0  # taken off a token's logit for each time it was said
    presence_penalty: float = 0.0  # taken off once where it was said
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token, what its logit gets)


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probabilities at one place, nats, by the model's own logits: before any setting."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # (token, log-probability), likeliest first


class Guide(Protocol):
    """What may come next; ``vlm.guide.JsonGuide`` is one."""

    def allowed(self) -> Tensor:
        """bool (vocabulary,)."""
        ...

    def take(self, token: int) -> None: ...


class Chooser:
    """Draws the tokens of one answer, one after another."""

    def __init__(self, sampling: Sampling, guide: Guide | None = None) -> None:
        self._sampling = sampling
        self._guide = guide
        self._generator = _generator(sampling.seed)
        self._said: Counter[int] = Counter()

    def choose(self, logits: Tensor) -> tuple[int, TokenLogprob | None]:
        """The next token from logits (vocabulary,), and what is told of it."""
        token = _draw(self._adjusted(logits), self._sampling, self._generator)
        self._said[token] += 1
        if self._guide is not None:
            self._guide.take(token)
        n = self._sampling.top_logprobs
        return token, None if n is None else token_logprob(logits, token, n)

    def _adjusted(self, logits: Tensor) -> Tensor:
        sampling = self._sampling
        changes = dict(sampling.logit_bias)
        if sampling.frequency_penalty or sampling.presence_penalty:
            for token, times in self._said.items():
                off = times * sampling.frequency_penalty + sampling.presence_penalty
                changes[token] = changes.get(token, 0.0) - off
        if changes:
            tokens = torch.tensor(list(changes))
            logits = logits.index_add(0, tokens, torch.tensor(list(changes.values())))
        if self._guide is not None:
            logits = logits.masked_fill(~self._guide.allowed(), -torch.inf)
        return logits


def token_logprob(logits: Tensor, token: int, n_top: int) -> TokenLogprob:
    """Log-probabilities of a token and of the `n_top` likeliest, by logits (vocabulary,)."""
    chances = logits.log_softmax(-1)
    best = chances.topk(n_top)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return TokenLogprob(token, float(chances[token]), tuple(pairs))


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed % 2**63)
    return generator


def _draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """A token from logits (vocabulary,)."""
    if sampling.temperature < LEAST_TEMPERATURE:
        return int(logits.argmax())
    chances = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        ranked, order = chances.sort(descending=True)
        # The smallest set that holds top_p of the mass; the first token always stays.
        outside = ranked.cumsum(0) - ranked >= sampling.top_p
        outside[0] = False  # a top_p that single precision takes for 0 would leave none
        chances = torch.zeros_like(chances).index_put((order,), ranked.masked_fill(outside, 0))
    return int(torch.multinomial(chances, 1, generator=generator))
