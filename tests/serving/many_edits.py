"""256 requests with edits of their own, as the tests of both engines send them."""

import base64
from typing import Any

from tests.tiny_model import png
from vlm.edits import Edit
from vlm.pipeline import Pipeline

N = 256


def edits(pipeline: Pipeline) -> list[Edit]:
    """256 edits, no two alike."""
    alive = [i for i in range(pipeline.n_features) if not pipeline.atlas.dead[i]]
    doses = [0.5 + 0.25 * i for i in range(1 + N // len(alive))]
    return [Edit(op="clamp", feature=i, value=dose) for dose in doses for i in alive][:N]


def images() -> list[bytes]:
    """The same photograph for the first half of the requests, 16 different ones for the rest."""
    return [png(0)] * (N // 2) + [png(1 + i % 16) for i in range(N // 2)]


def chat(image: bytes, edit: Edit, text: str, **more: Any) -> dict[str, Any]:
    """The body of one request."""
    uri = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": text}]
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": content}],
        "steering": {"edits": [edit.to_json()]},
        **more,
    }


def forget(pipeline: Pipeline) -> None:
    """Nothing of an earlier request is kept for the next."""
    for kept in pipeline.kept.values():
        kept.clear()
