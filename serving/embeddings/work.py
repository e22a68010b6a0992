"""Embeddings between wire and pipeline: no HTTP here."""

import base64
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from serving.data_uri import read_image
from serving.embeddings.wire import (
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    SparseEmbedding,
)
from serving.errors import ModelNotFoundError
from serving.limits import Limits
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.pipeline import Pipeline

Input = str | DecodedImage


def read_inputs(body: EmbeddingRequest, pipeline: Pipeline, limits: Limits) -> list[Input]:
    """Texts and decoded photographs in order. Raises SparsightError for what it refuses."""
    if body.model != pipeline.name:
        raise ModelNotFoundError(
            f"no model {body.model[:80]!r} here; this server has {pipeline.name!r}", param="model"
        )
    uris = [_uri(item) for item in body.input]
    n_images = sum(uri is not None for uri in uris)
    texts = [item for item in body.input if isinstance(item, str) and _uri(item) is None]
    for n, limit, what in (
        (n_images, limits.max_images, "photographs"),
        (sum(map(len, texts)), limits.max_text, "characters of text"),
    ):
        if n > limit:
            raise SparsightError(
                f"the input holds {n:,} {what}, at most {limit:,} are allowed", param="input"
            )
    found: list[Input] = []
    for i, (item, uri) in enumerate(zip(body.input, uris, strict=True)):
        if uri is not None:
            place = f"input[{i}]" if isinstance(item, str) else f"input[{i}].image_url.url"
            found.append(read_image(uri, param=place, limits=limits.image, remote=limits.remote))
        elif isinstance(item, str):
            found.append(item)
    return found


def _uri(item: Any) -> str | None:
    """Where the photograph is; None for a text."""
    if isinstance(item, str):
        return item if item[:11].lower() == "data:image/" else None
    return str(item.image_url.url)


def embeddings(
    pipeline: Pipeline, inputs: Sequence[Input], body: EmbeddingRequest
) -> EmbeddingList:
    """The global code of each input over its L2 norm, [0, 1] at each place.

    Raises SparsightError for a text that is longer than the text trunk reads, and for an input on
    which no feature is active: nothing points anywhere, so no unit vector can stand for it.
    """
    total = sum(_n_tokens(pipeline, one, i) for i, one in enumerate(inputs) if isinstance(one, str))
    texts = [one for one in inputs if isinstance(one, str)]
    of_texts = iter(pipeline.encoder.encode_texts(texts)) if texts else iter(())
    data = []
    for i, one in enumerate(inputs):
        code = next(of_texts) if isinstance(one, str) else _image_code(pipeline, one)
        norm = code.double().norm()
        if not norm > 0:
            raise SparsightError(
                f"no feature is active on input[{i}], so it has no embedding", param=f"input[{i}]"
            )
        unit = (code.double() / norm).float()
        data.append(Embedding(index=i, embedding=_written(unit, body)))
    return EmbeddingList(
        data=data,
        model=pipeline.name,
        usage=EmbeddingUsage(prompt_tokens=total, total_tokens=total),
        system_fingerprint=pipeline.fingerprint,
    )


def _written(unit: Tensor, body: EmbeddingRequest) -> list[float] | str | SparseEmbedding:
    if body.sparse:
        (index,) = unit.nonzero(as_tuple=True)
        return SparseEmbedding(indices=index.tolist(), values=unit[index].tolist())
    if body.encoding_format == "base64":
        return base64.b64encode(unit.detach().numpy().astype("<f4").tobytes()).decode("ascii")
    values: list[float] = unit.tolist()
    return values


def _image_code(pipeline: Pipeline, image: DecodedImage) -> Tensor:
    """The global code (features,)."""
    codes = pipeline.encode([image])
    code = torch.zeros(codes.n_features)
    end = int(codes.offset[1])
    code[codes.index[:end]] = codes.value[:end]
    return code


def _n_tokens(pipeline: Pipeline, text: str, i: int) -> int:
    """As the text trunk counts, which would cut what is too long in silence."""
    trunk: Any = pipeline.encoder.text_trunk
    tokenizer = getattr(trunk, "tokenizer", None)
    if tokenizer is None:  # a trunk of words
        return len(text.split())
    n, most = len(tokenizer(text)["input_ids"]), int(trunk.max_tokens)
    if n > most:
        raise SparsightError(
            f"input[{i}] has {n} tokens, the text trunk reads {most}; send a shorter text",
            param=f"input[{i}]",
            code="context_length_exceeded",
        )
    return n
