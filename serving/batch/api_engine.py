"""The same outputs from running gateways: ``sparsight caption --api URL...``.

This process names and reads photographs and writes results; decoding, encoding and the language
model are the gateways'. Photographs are sent as they are, so receipts name the file's own bytes.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from serving.batch.answers import answer_entry, whole_outputs, written_code
from serving.batch.engine import Outputs
from serving.batch.gateways import GatewayError, Gateways, Served
from serving.batch.item import Item, Photo
from serving.batch.plan import Plan, Question, Steering
from serving.batch.reading import read_bytes
from sparse_encoder.errors import SparsightError

N_READERS = 8  # threads that wait for files and addresses


class ApiEngine:
    """n_open: requests that each gateway has at once.

    steer_from: bytes of the photographs that steerings take features from, by their sha256.
    """

    def __init__(
        self,
        gateways: Gateways,
        served: Served,
        *,
        n_open: int = 8,
        steer_from: Mapping[str, bytes] | None = None,
    ) -> None:
        self._gateways = gateways
        self._served = served
        self._n_threads = n_open * gateways.n
        self._steer_from = steer_from or {}
        # Several rounds, so that a slow gateway keeps the others waiting only once in a while.
        self.n_together = 4 * self._n_threads

    def read(self, items: Iterable[Item], *, keep_data: bool) -> Iterator[Photo]:
        remaining = iter(items)
        with ThreadPoolExecutor(N_READERS) as readers:
            while chunk := list(islice(remaining, 2 * N_READERS)):
                yield from readers.map(read_bytes, chunk)

    def outputs(self, photos: Sequence[Photo], plan: Plan) -> Iterator[Outputs]:
        """Raises GatewayError where no gateway answers any more."""
        asking = ThreadPoolExecutor(self._n_threads)
        futures: list[Future[Outputs]] = []
        try:
            futures += [asking.submit(self._one, photo, plan) for photo in photos]
            for future in futures:
                yield future.result()
        finally:
            if not all(future.done() for future in futures):
                # Or threads that wait for a gateway would hold up the end of the run.
                self._gateways.stop(GatewayError("the run has ended"))
            asking.shutdown(wait=True, cancel_futures=True)

    def _one(self, photo: Photo, plan: Plan) -> Outputs:
        try:
            uri = _data_uri(photo.data or b"")
            answers = [
                self._answer(uri, question, steering)
                for question in plan.questions
                for steering in plan.steerings
            ]
            return whole_outputs(str(photo.sha256), plan, answers, self._codes(uri, plan))
        except GatewayError:
            raise
        except SparsightError as error:
            return error

    def _answer(self, uri: str, question: Question, steering: Steering) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._served.name,
            "max_completion_tokens": question.max_tokens,
            "steering": self._steering(steering),
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": uri}},
                        {"type": "text", "text": question.prompt},
                    ],
                }
            ],
        }
        if question.schema is not None:
            asked = {"name": "tags", "schema": json.loads(question.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": asked}
        found = self._gateways.post("/v1/chat/completions", body)
        choice = found["choices"][0]
        receipt = (found.get("steering") or {}).get("receipt")
        text, reason = choice["message"]["content"], choice["finish_reason"]
        return answer_entry(question, steering.name, text, reason, receipt)

    def _steering(self, steering: Steering) -> dict[str, Any]:
        asked: dict[str, Any] = {"receipt": True}
        if steering.edits:
            asked["edits"] = [edit.to_json() for edit in steering.edits]
        if steering.recipe is not None:
            asked["recipe"] = steering.recipe.to_json()
            asked["resolve_again"] = steering.resolve_again
        if (other := steering.steer_from) is not None:
            uri = _data_uri(self._steer_from[other.photo.sha256])
            asked["steer_from"] = {"image_url": {"url": uri}, "top": other.top}
        return asked

    def _codes(self, uri: str, plan: Plan) -> dict[str, Any]:
        if not plan.codes and plan.embedding is None:
            return {}
        found = self._gateways.post("/v1/features/activations", {"images": [uri], "all": True})
        code = found["codes"][0]
        index = np.asarray(code["indices"], dtype=np.int64)
        value = np.asarray(code["values"], dtype=np.float32)
        order = np.argsort(index)  # theirs come strongest first
        return written_code(index[order], value[order], self._served.n_features, plan)


def _data_uri(data: bytes) -> str:
    # The gateway goes by the bytes, but wants some type of image.
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
