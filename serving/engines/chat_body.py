"""The body of vLLM's chat completions: the chat as it came, its images as soft tokens.

vLLM's layout is ours (``vlm.template``): parts of a message are joined with a newline, and the
template of the exported checkpoint goes round them. The tensor is built here and nowhere else.
"""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from serving.engines.vllm_logprobs import logprobs_body
from sparse_encoder.errors import SparsightError
from vlm.sampling import Sampling
from vlm.template import Message, TextPart

# What vLLM splices embeddings into; a text that holds it would move them.
PLACEHOLDER = "<prompt_embeds>"


def chat_body(
    messages: Sequence[Message], soft: Sequence[Tensor], sampling: Sampling, model: str
) -> dict[str, Any]:
    """JSON of one request; `soft` (tokens, hidden) one an image, already checked.

    Raises SparsightError for text that vLLM would read as its own mark.
    """
    images = iter(soft)
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": message.role, "content": list(_parts(message, images))} for message in messages
        ],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        # Said in full, for a checkpoint's generation_config may have other defaults.
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "n": 1,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 2**63
    return {**body, **_drawing(sampling)}


def _drawing(sampling: Sampling) -> dict[str, Any]:
    """What is asked for beyond temperature and top_p."""
    body: dict[str, Any] = {}
    if sampling.top_logprobs is not None:
        body |= logprobs_body(sampling.top_logprobs)
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): value for token, value in sampling.logit_bias}
    if sampling.json_schema is not None:
        schema = {"name": "answer", "schema": json.loads(sampling.json_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def streaming(body: dict[str, Any]) -> dict[str, Any]:
    """The same request streamed, with token counts in every chunk."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    return {**body, "stream": True, "stream_options": options}


def _parts(message: Message, images: Iterator[Tensor]) -> Iterator[dict[str, str]]:
    for part in message.parts:
        if isinstance(part, TextPart):
            if PLACEHOLDER in part.text:
                raise SparsightError(
                    f"the text holds {PLACEHOLDER!r}, which is reserved for the engine; remove it",
                    param="messages",
                    code="reserved_token",
                )
            yield {"type": "text", "text": part.text}
        else:
            yield {"type": "prompt_embeds", "data": encode_rows(next(images))}


def encode_rows(rows: Tensor) -> str:
    """base64 of torch's own file, float32: the form that vLLM reads (with weights_only)."""
    buffer = io.BytesIO()
    # A clone: a view would be saved with all of the storage behind it.
    torch.save(rows.detach().to("cpu", torch.float32).clone(), buffer)
    return base64.b64encode(buffer.getvalue()).decode()
