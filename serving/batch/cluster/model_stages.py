"""What a cluster's machines do with the model: encode, then speak.

Blocks and rows are those of `read_stages`. Soft prompts travel from encoder to language model as token
ids (JSON) and float32, so nothing that could run code does.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow
import torch
from PIL import Image

from serving.batch.answers import answer_entry, code_outputs, plan_request, whole_outputs
from serving.batch.cluster.read_stages import Block, Row
from serving.batch.plan import Plan
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.pipeline import Pipeline
from vlm.sampling import Sampling
from vlm.soft_prompt import SoftPrompt
from vlm.speaker import Said, Speaker

ENCODED = pyarrow.schema(
    [
        ("i", pyarrow.int64()),
        ("sha256", pyarrow.string()),
        ("codes", pyarrow.string()),  # JSON
        ("prompts", pyarrow.string()),  # JSON: pieces, tokens of each image, receipt
        ("soft", pyarrow.large_binary()),  # float32, of all prompts one after another
        ("error", pyarrow.string()),
    ]
)
DONE = pyarrow.schema(
    [("i", pyarrow.int64()), ("outputs", pyarrow.string()), ("error", pyarrow.string())]
)


class Encoders:
    """An actor with the encoder: DECODED to ENCODED."""

    def __init__(self, model: str, plan: Plan) -> None:
        self._plan = plan
        self._pipeline = Pipeline.load(model, speaks=False)
        _same_model(self._pipeline.fingerprint, plan)

    def __call__(self, block: Block) -> Block:
        rows = [self._encoded(row) for row in block.to_pylist()]
        return pyarrow.Table.from_pylist(rows, schema=ENCODED)

    def _encoded(self, row: Row) -> Row:
        if row["error"] is not None:
            return {"i": row["i"], "error": row["error"]}
        width, height, *size = row["shape"]
        pixels = Image.frombytes("RGB", (width, height), row["pixels"])
        image = DecodedImage(pixels, row["sha256"], (size[0], size[1]))
        prompts, soft = [], []
        try:
            codes = code_outputs(self._pipeline, image, self._plan)
            for question in self._plan.questions:
                for steering in self._plan.steerings:
                    prompt = self._pipeline.soft_prompt(plan_request(image, question, steering))
                    soft += [_bytes(each) for each in prompt.soft]
                    prompts.append(
                        {
                            "pieces": prompt.pieces,
                            "n_soft": [len(each) for each in prompt.soft],
                            "receipt": None if prompt.receipt is None else prompt.receipt.to_json(),
                        }
                    )
        except SparsightError as error:
            return {"i": row["i"], "error": error.message}
        return {
            "i": row["i"],
            "sha256": row["sha256"],
            "codes": json.dumps(codes),
            "prompts": json.dumps(prompts),
            "soft": b"".join(soft),
        }


class Speakers:
    """An actor with the language model: ENCODED to DONE. `batch_size` answers at once."""

    def __init__(self, model: str, plan: Plan, batch_size: int) -> None:
        self._plan = plan
        self._batch_size = batch_size
        device = "cuda" if torch.cuda.is_available() else "cpu"  # as Ray lets it see
        self._speaker = Speaker.load(model, device=device) if plan.questions else None

    def __call__(self, block: Block) -> Block:
        rows = block.to_pylist()
        good = [row for row in rows if row["error"] is None]
        made: dict[int, Row] = {row["i"]: row for row in rows if row["error"] is not None}
        try:
            for row, outputs in zip(good, self._outputs(good), strict=True):
                made[row["i"]] = {"outputs": json.dumps(outputs)}
        except SparsightError:  # of one of them: each by itself
            for row in good:
                made[row["i"]] = self._alone(row)
        out = [{**made[row["i"]], "i": row["i"]} for row in rows]
        return pyarrow.Table.from_pylist(out, schema=DONE)

    def _alone(self, row: Row) -> Row:
        try:
            return {"outputs": json.dumps(self._outputs([row])[0])}
        except SparsightError as error:
            return {"error": error.message}

    def _outputs(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        answers: list[list[dict[str, Any]]] = [[] for _ in rows]
        prompts = [list(_prompts(row)) for row in rows]
        n_steerings = len(self._plan.steerings)
        for q, question in enumerate(self._plan.questions):
            # The same cuts as serving.batch.answers makes, so that both say the same to the bit.
            asked = [(r, s) for r in range(len(rows)) for s in range(n_steerings)]
            sampling = Sampling(max_tokens=question.max_tokens, json_schema=question.schema)
            for start in range(0, len(asked), self._batch_size):
                chunk = asked[start : start + self._batch_size]
                of_chunk = [prompts[r][q * n_steerings + s] for r, s in chunk]
                said = self._say([prompt for prompt, _ in of_chunk], sampling)
                for (r, s), (_, receipt), one in zip(chunk, of_chunk, said, strict=True):
                    name = self._plan.steerings[s].name
                    answers[r].append(
                        answer_entry(question, name, one.text, one.finish_reason, receipt)
                    )
        return [
            whole_outputs(row["sha256"], self._plan, of_row, json.loads(row["codes"]))
            for row, of_row in zip(rows, answers, strict=True)
        ]

    def _say(self, prompts: Sequence[SoftPrompt], sampling: Sampling) -> list[Said]:
        if self._speaker is None:
            raise ValueError("nothing is asked of the language model")
        return self._speaker.say(prompts, [sampling] * len(prompts))


def _prompts(row: Row) -> Iterator[tuple[SoftPrompt, Any]]:
    """A row's soft prompts, each with the JSON of its receipt."""
    asked = json.loads(row["prompts"])
    n_tokens = sum(n for each in asked for n in each["n_soft"])
    # Copied: torch would warn of memory that it may not write to.
    values = np.frombuffer(row["soft"], dtype=np.float32).copy()
    soft = torch.from_numpy(values).view(n_tokens, -1)
    at = 0
    for each in asked:
        parts = []
        for n in each["n_soft"]:
            parts.append(soft[at : at + n])
            at += n
        yield SoftPrompt(each["pieces"], tuple(parts), None), each["receipt"]


def _bytes(soft: torch.Tensor) -> bytes:
    out: bytes = soft.detach().to(torch.float32).contiguous().numpy().tobytes()
    return out


def _same_model(fingerprint: str, plan: Plan) -> None:
    if fingerprint != plan.fingerprint:
        raise SparsightError(
            f"this machine of the cluster has another model under that name ({fingerprint[:12]}, "
            f"the run's is {plan.fingerprint[:12]}); install the same version everywhere",
            param="model",
        )
