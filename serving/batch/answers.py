"""A batch of photographs to their outputs.

Prompts of one text have one length, so each text is a batch of its own over all photographs and
steerings: nothing is padded, and an answer equals the one it would have alone (to rounding).
"""

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from serving.batch.plan import Embedding, Plan, Steering
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.pipeline import Answer, Request, Sampling, caption_request


class Answering(Protocol):
    """What is needed of the pipeline."""

    def encode(self, images: Sequence[DecodedImage]) -> Codes: ...
    def answer(self, requests: Sequence[Request]) -> list[Answer]: ...


def outputs_of(
    pipeline: Answering, images: Sequence[DecodedImage], plan: Plan, batch_size: int
) -> list[dict[str, Any]]:
    """The outputs of each image, as they stand in a result.

    At most `batch_size` answers are generated at once. Raises SparsightError where one is refused.
    """
    captions = _captions(pipeline, images, plan, batch_size)
    if plan.is_simple:
        return [{"caption": each[0]["caption"], "receipt": each[0]["receipt"]} for each in captions]
    results = []
    for image, of_image in zip(images, captions, strict=True):
        out: dict[str, Any] = {"sha256": image.sha256}
        if plan.prompts:
            out["captions"] = of_image
        if plan.codes or plan.embedding:
            index, value, n_features = _global_code(pipeline.encode([image]))
            if plan.codes:
                out["code"] = {"features": index.tolist(), "activations": _floats(value)}
            if plan.embedding:
                out["embedding"] = _embedding(index, value, n_features, plan.embedding)
        results.append(out)
    return results


def dense_embedding(embedding: dict[str, Any], n_features: int) -> np.ndarray[Any, Any]:
    """The vector (features,), float32, that an ``embedding`` of either kind stands for."""
    if embedding["kind"] == "dense":
        return np.frombuffer(base64.b64decode(embedding["float32"]), dtype="<f4")
    out = np.zeros(n_features, dtype="<f4")
    out[embedding["features"]] = embedding["values"]
    return out


def _captions(
    pipeline: Answering, images: Sequence[DecodedImage], plan: Plan, batch_size: int
) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = [[] for _ in images]
    for prompt in plan.prompts:
        asked = [(i, steering) for i in range(len(images)) for steering in plan.steerings]
        for start in range(0, len(asked), batch_size):
            chunk = asked[start : start + batch_size]
            requests = [_request(images[i], prompt, steering, plan) for i, steering in chunk]
            for (i, steering), answer in zip(chunk, pipeline.answer(requests), strict=True):
                receipt = None if answer.receipt is None else answer.receipt.to_json()
                found[i].append(
                    {
                        "prompt": prompt,
                        "steering": steering.name,
                        "caption": answer.text,
                        "receipt": receipt,
                    }
                )
    return found


def _request(image: DecodedImage, prompt: str, steering: Steering, plan: Plan) -> Request:
    sampling = Sampling(max_tokens=plan.max_tokens)
    request = caption_request(image, prompt=prompt, edits=steering.edits, sampling=sampling)
    return replace(
        request,
        want_receipt=True,
        recipe=steering.recipe,
        resolve_again=steering.resolve_again,
        steer_from=steering.steer_from,
    )


def _global_code(codes: Codes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    """Features, activations and width of one image's global code."""
    if codes.n_images != 1:
        raise ValueError(f"{codes.n_images} images, expected one")
    end = int(codes.offset[1])
    return codes.index[:end].numpy(), codes.value[:end].numpy(), codes.n_features


def _embedding(
    index: np.ndarray[Any, Any], value: np.ndarray[Any, Any], n_features: int, kind: Embedding
) -> dict[str, Any]:
    norm = np.linalg.norm(value.astype(np.float64))
    if not norm > 0:  # nothing points anywhere: no unit vector can stand for it
        raise SparsightError("no feature is active on this photograph, so it has no embedding")
    unit = (value / norm).astype("<f4")
    if kind == "sparse":
        return {"kind": "sparse", "features": index.tolist(), "values": _floats(unit)}
    dense = np.zeros(n_features, dtype="<f4")
    dense[index] = unit
    return {"kind": "dense", "float32": base64.b64encode(dense.tobytes()).decode("ascii")}


def _floats(values: np.ndarray[Any, Any]) -> list[float]:
    """float32 in the fewest digits that read back to the same float32."""
    return [float(str(value)) for value in values.astype(np.float32)]
