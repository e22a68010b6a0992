"""Token by token decoding of a batch of prompts given as input vectors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from sparse_encoder.errors import SparsightError
from vlm.sampling import Chooser, Guide, Sampling, TokenLogprob


class Chosen(NamedTuple):
    """One token of one answer."""

    prompt: int  # index of its prompt
    token: int
    logprob: TokenLogprob | None  # where the sampling asks for it


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Tensor],
    samplings: Sequence[Sampling],
    end: int,
    guides: Sequence[Guide | None] | None = None,
    unwanted: Callable[[int], bool] = lambda _: False,
) -> Iterator[list[Chosen]]:
    """Yields, a step at a time, the next token of every answer still running.

    prompts: input vectors (tokens, hidden) each. guides: what may be said, one a prompt. An answer
    ends with the token `end`, which is yielded too, at its max_tokens, or once `unwanted` says so of
    its place. Prompts are padded on the left; padding is masked and given no position, so an answer
    does not depend on what it is batched with (to rounding).
    """
    check_length(model, prompts, samplings)
    running = list(range(len(prompts)))
    choosers = [
        Chooser(sampling, guide)
        for sampling, guide in zip(samplings, guides or [None] * len(prompts), strict=True)
    ]
    longest = max(len(p) for p in prompts)
    inputs = torch.stack(
        [torch.cat([p.new_zeros(longest - len(p), p.shape[1]), p]) for p in prompts]
    )
    device = inputs.device
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    position = (mask.cumsum(1) - 1).clamp_min(0)
    cache = DynamicCache()
    for n_done in range(1, max(s.max_tokens for s in samplings) + 1):
        logits = (
            model(
                inputs_embeds=inputs,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            .logits[:, -1]
            .float()
            .cpu()
        )  # (running, vocabulary)
        step = [Chosen(i, *choosers[i].choose(row)) for row, i in zip(logits, running, strict=True)]
        yield step
        tokens = [chosen.token for chosen in step]
        keep = [
            place
            for place, (i, token) in enumerate(zip(running, tokens, strict=True))
            if token != end and n_done < samplings[i].max_tokens and not unwanted(i)
        ]
        if not keep:
            return
        kept = torch.tensor(keep, device=device)
        if len(keep) < len(running):  # finished answers leave the batch
            cache.batch_select_indices(kept)
            running = [running[place] for place in keep]
        said = torch.tensor([[tokens[place]] for place in keep], device=device)
        inputs = model.get_input_embeddings()(said)
        mask = torch.cat([mask[kept], mask.new_ones(len(keep), 1)], dim=1)
        position = position[kept][:, -1:] + 1


def check_length(model: Any, prompts: Sequence[Tensor], samplings: Sequence[Sampling]) -> None:
    """Refuses a prompt that leaves no room for its answer."""
    for prompt, sampling in zip(prompts, samplings, strict=True):
        check_room(model, len(prompt), sampling)


def check_bias(model: Any, sampling: Sampling) -> None:
    """Refuses a bias for a token that the model has not."""
    n = int(model.config.vocab_size)
    for token, _ in sampling.logit_bias:
        if not 0 <= token < n:
            raise SparsightError(
                f"logit_bias names token {token}, the model has 0 to {n - 1}", param="logit_bias"
            )


def check_room(model: Any, n_prompt: int, sampling: Sampling) -> None:
    """Refuses a prompt of so many tokens that leaves no room for its answer, and unknown tokens."""
    check_bias(model, sampling)
    room = int(model.config.max_position_embeddings)
    if n_prompt + sampling.max_tokens > room:
        raise SparsightError(
            f"{n_prompt} prompt tokens and max_tokens={sampling.max_tokens} exceed the "
            f"model's {room} tokens; shorten the chat or lower max_tokens",
            param="messages",
            code="context_length_exceeded",
        )
