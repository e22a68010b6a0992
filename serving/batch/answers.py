"""A batch of photographs to their outputs.

Prompts of one text have one length, so each text is a batch of its own over all photographs and
steerings: nothing is padded, and an answer equals the one it would have alone (to rounding).
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from serving.batch.plan import Embedding, Plan, Question, Steering
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.pipeline import Answer, Request, Sampling, caption_request

Array = np.ndarray[Any, Any]


class Encoding(Protocol):
    """What is needed of the pipeline for codes."""

    def encode(self, images: Sequence[DecodedImage]) -> Codes: ...


class Answering(Encoding, Protocol):
    """What is needed of the pipeline."""

    def answer(self, requests: Sequence[Request]) -> list[Answer]: ...


def outputs_of(
    pipeline: Answering, images: Sequence[DecodedImage], plan: Plan, batch_size: int
) -> list[dict[str, Any]]:
    """The outputs of each image, as they stand in a result.

    At most `batch_size` answers are generated at once. Raises SparsightError where one is refused.
    """
    answers = _answers(pipeline, images, plan, batch_size)
    return [
        whole_outputs(image.sha256, plan, of_image, code_outputs(pipeline, image, plan))
        for image, of_image in zip(images, answers, strict=True)
    ]


def whole_outputs(
    sha256: str, plan: Plan, answers: Sequence[dict[str, Any]], codes: dict[str, Any]
) -> dict[str, Any]:
    """Answers (`answer_entry`, in the order of questions, then steerings) and codes as one output."""
    if plan.is_simple:
        return {"caption": answers[0]["caption"], "receipt": answers[0]["receipt"]}
    out: dict[str, Any] = {"sha256": sha256}
    n_captions = len(plan.prompts) * len(plan.steerings)
    if plan.prompts:
        out["captions"] = list(answers[:n_captions])
    if plan.tags is not None:
        out["tags"] = list(answers[n_captions:])
    return {**out, **codes}


def answer_entry(
    question: Question, steering: str, text: str, finish_reason: str, receipt: dict[str, Any] | None
) -> dict[str, Any]:
    """One answer in an output. Raises SparsightError for JSON that was cut off."""
    named = {"prompt": question.prompt, "steering": steering}
    if question.schema is None:
        return {**named, "caption": text, "receipt": receipt}
    try:
        found = json.loads(text)
    except ValueError:
        why = f"at {question.max_tokens} tokens" if finish_reason == "length" else "early"
        raise SparsightError(
            f"the JSON ended {why} and is not whole; give the schema bounds (maxItems, maxLength), "
            "or raise --max-tokens",
            param="max_tokens",
        ) from None
    return {**named, "json": found, "receipt": receipt}


def code_outputs(pipeline: Encoding, image: DecodedImage, plan: Plan) -> dict[str, Any]:
    """``code`` and ``embedding`` of one image, as far as they are asked for."""
    if not plan.codes and plan.embedding is None:
        return {}
    return written_code(*_global_code(pipeline.encode([image])), plan)


def written_code(index: Array, value: Array, n_features: int, plan: Plan) -> dict[str, Any]:
    """The same from active features in rising order and their activations, float32."""
    out: dict[str, Any] = {}
    if plan.codes:
        out["code"] = {"features": index.tolist(), "activations": _floats(value)}
    if plan.embedding:
        out["embedding"] = _embedding(index, value, n_features, plan.embedding)
    return out


def dense_embedding(embedding: dict[str, Any], n_features: int) -> Array:
    """The vector (features,), float32, that an ``embedding`` of either kind stands for."""
    if embedding["kind"] == "dense":
        return np.frombuffer(base64.b64decode(embedding["float32"]), dtype="<f4")
    out = np.zeros(n_features, dtype="<f4")
    out[embedding["features"]] = embedding["values"]
    return out


def plan_request(image: DecodedImage, question: Question, steering: Steering) -> Request:
    """What a pipeline is asked."""
    sampling = Sampling(max_tokens=question.max_tokens, json_schema=question.schema)
    request = caption_request(
        image, prompt=question.prompt, edits=steering.edits, sampling=sampling
    )
    return replace(
        request,
        want_receipt=True,
        recipe=steering.recipe,
        resolve_again=steering.resolve_again,
        steer_from=steering.steer_from,
    )


def _answers(
    pipeline: Answering, images: Sequence[DecodedImage], plan: Plan, batch_size: int
) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = [[] for _ in images]
    for question in plan.questions:
        asked = [(i, steering) for i in range(len(images)) for steering in plan.steerings]
        for start in range(0, len(asked), batch_size):
            chunk = asked[start : start + batch_size]
            requests = [plan_request(images[i], question, steering) for i, steering in chunk]
            for (i, steering), answer in zip(chunk, pipeline.answer(requests), strict=True):
                receipt = None if answer.receipt is None else answer.receipt.to_json()
                found[i].append(
                    answer_entry(
                        question, steering.name, answer.text, answer.finish_reason, receipt
                    )
                )
    return found


def _global_code(codes: Codes) -> tuple[Array, Array, int]:
    """Features, activations and width of one image's global code."""
    if codes.n_images != 1:
        raise ValueError(f"{codes.n_images} images, expected one")
    end = int(codes.offset[1])
    return codes.index[:end].numpy(), codes.value[:end].numpy(), codes.n_features


def _embedding(index: Array, value: Array, n_features: int, kind: Embedding) -> dict[str, Any]:
    norm = np.linalg.norm(value.astype(np.float64))
    if not norm > 0:  # nothing points anywhere: no unit vector can stand for it
        raise SparsightError("no feature is active on this photograph, so it has no embedding")
    unit = (value / norm).astype("<f4")
    if kind == "sparse":
        return {"kind": "sparse", "features": index.tolist(), "values": _floats(unit)}
    dense = np.zeros(n_features, dtype="<f4")
    dense[index] = unit
    return {"kind": "dense", "float32": base64.b64encode(dense.tobytes()).decode("ascii")}


def _floats(values: Array) -> list[float]:
    """float32 in the fewest digits that read back to the same float32."""
    return [float(str(value)) for value in values.astype(np.float32)]
