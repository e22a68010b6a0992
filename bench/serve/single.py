"""Bars that are no throughput: encodings saved, sweeps against requests, the time of a receipt."""

import re
import statistics
import time
from dataclasses import replace
from typing import Any

import httpx

from bench.serve.figures import Ratio
from bench.serve.servers import Server
from bench.serve.traffic import CONCEPTS, Traffic, distinct_edit
from sparse_encoder.image import DecodedImage
from vlm.apply import steering_warnings
from vlm.claimed_doses import calibration_of
from vlm.edits import parse_edit
from vlm.pipeline import Pipeline
from vlm.receipt import make_receipt
from vlm.sweep import MAX_SWEEP
from vlm.template import DEFAULT_PROMPT

_ENCODED = re.compile(r"^sparsight_encode_seconds_count (\S+)$", re.MULTILINE)
PATIENCE_S = 1800.0


def n_encoded(server: Server) -> int:
    """How many images the server's encoder has seen, by its own /metrics."""
    text = httpx.get(f"{server.url}/metrics", timeout=60, trust_env=False).text
    found = _ENCODED.search(text)
    if found is None:
        raise RuntimeError(f"{server.url}/metrics counts no encodings")
    return int(float(found[1]))


def encodings_of_edits(server: Server, traffic: Traffic, n: int = 8) -> tuple[int, int]:
    """Encodings of a photograph's first edit, and of `n` further ones together."""
    (body,) = traffic.unsteered(1, stream=False, cold=True)
    counts = [n_encoded(server)]
    for batch in ([0], range(1, n + 1)):
        for i in batch:
            body["steering"] = {"edits": [distinct_edit(i, 0)]}
            httpx.post(
                server.chat, json=body, timeout=PATIENCE_S, trust_env=False
            ).raise_for_status()
        counts.append(n_encoded(server))
    return counts[1] - counts[0], counts[2] - counts[1]


def sweep_against_requests(
    server: Server, traffic: Traffic, n_turns: int
) -> tuple[Ratio, list[float], list[float]]:
    """A sweep's time over that of the same answers asked for one after the other; both, seconds.

    The largest sweep: MAX_SWEEP doses and the unsteered answer, 16 answers. Each turn has a concept
    of its own, and the same photograph, which was encoded before.
    """
    photo = traffic.photographs.warm(0)
    doses = [round(8 * i / (MAX_SWEEP - 1), 3) for i in range(MAX_SWEEP)]
    # The first turn's concept is none of the later ones'; it pays for lazy starts and is dropped.
    concepts = ["woman", *CONCEPTS]
    sweeps, singles = [], []
    with httpx.Client(timeout=PATIENCE_S, trust_env=False) as http:

        def swept(concept: str) -> list[str]:
            answer = http.post(
                f"{server.url}/v1/steering/sweep",
                json={
                    "model": traffic.model, "image": photo, "concept": concept, "doses": doses,
                    "max_tokens": traffic.max_tokens,
                },
            )  # fmt: skip
            answer.raise_for_status()
            found = answer.json()
            return [found["unsteered"]["text"], *(point["text"] for point in found["points"])]

        def one_by_one(concept: str) -> list[str]:
            texts = []
            for dose in (None, *doses):
                answer = http.post(server.chat, json=_plain(traffic, photo, concept, dose))
                answer.raise_for_status()
                texts.append(answer.json()["choices"][0]["message"]["content"])
            return texts

        for turn in range(n_turns + 1):
            concept = concepts[turn % len(concepts)]
            took: dict[str, float] = {}
            said = {}
            order = [("sweep", swept), ("single", one_by_one)]
            for name, work in order if turn % 2 else order[::-1]:
                began = time.perf_counter()
                said[name] = work(concept)
                took[name] = time.perf_counter() - began
            if said["sweep"] != said["single"]:
                raise RuntimeError(f"a sweep of {concept} and its requests say different things")
            if turn:
                sweeps.append(took["sweep"])
                singles.append(took["single"])
    return Ratio.of(sweeps, singles), sweeps, singles


def _plain(traffic: Traffic, photo: str, concept: str, dose: float | None) -> dict[str, Any]:
    content = [
        {"type": "image_url", "image_url": {"url": photo}},
        {"type": "text", "text": DEFAULT_PROMPT},
    ]
    body: dict[str, Any] = {
        "model": traffic.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": traffic.max_tokens,
    }
    if dose is not None:
        body["steering"] = {"edits": [{"op": "clamp", "concept": concept, "value": dose}]}
    return body


def receipt_ms(pipeline: Pipeline, image: DecodedImage, n: int = 200) -> tuple[float, float]:
    """(median, 95th percentile) milliseconds of CPU time for one receipt, made and as JSON.

    Without the digest of its codes, which the cache of soft tokens needs with or without a receipt.
    """
    codes = pipeline.encode([image])
    edits = tuple(parse_edit(distinct_edit(i, 0)) for i in range(2))
    steered = pipeline.steer(codes, edits)
    took = []
    for _ in range(n):
        began = time.thread_time()  # what others do on the machine is no matter of a receipt
        make_receipt(
            fingerprint=pipeline.fingerprint,
            images=[image.sha256],
            edits=edits,
            applied=steered.applied,
            codes=replace(steered.edited),  # whose digest is not made yet
            warnings=steering_warnings(steered.applied, pipeline.atlas),
            calibration=calibration_of(pipeline.atlas),
        ).to_json()
        took.append(1000 * (time.thread_time() - began))
    return statistics.median(took), sorted(took)[int(0.95 * n)]
