"""A pipeline that answers at once and remembers what it was asked, and a server in front of it."""

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from serving.app import create_app
from serving.limits import Limits
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from tests.live_server import listening
from vlm.asked_edits import asked_edits
from vlm.changes import EditedCodes
from vlm.edits import Edit
from vlm.pipeline import Answer, ImagePart, Request, TextPart
from vlm.receipt import make_receipt

NAMES = ["dog", "cat", "hot dog", "ghost", "", "", "", ""]


def tiny_atlas() -> FeatureAtlas:
    n = len(NAMES)
    density = np.full(n, 0.05, dtype=np.float32)
    density[3] = 0.0  # the ghost is dead
    scale = np.where(density > 0, 2.0, 0.0).astype(np.float32)
    return FeatureAtlas(
        fingerprint="f" * 64,
        names=list(NAMES),
        runner_up=[["puppy"], ["dogfish"], *([] for _ in range(n - 2))],
        name_score=np.ones(n, dtype=np.float32),
        density=density,
        p50=scale / 4,
        p90=scale / 2,
        p99=scale,
        max=scale,
        modality=np.full(n, 0.5, dtype=np.float32),
        vocabulary=frozenset(["dog", "cat"]),
    )


def text_codes(texts: Sequence[str]) -> torch.Tensor:
    """Codes (texts, features): 2 for the cat and 1 for the dog where a text speaks of an animal."""
    codes = torch.zeros(len(texts), len(NAMES))
    for row, text in zip(codes, texts, strict=True):
        if "animal" in text:
            row[:2] = torch.tensor([1.0, 2.0])
    return codes


class FakePipeline:
    """Says what it was asked. `gate` holds answers back while cleared; `batches` has their sizes.

    A concept of unicorn is refused, a text of "boom" is a fault inside, "crack" one after a piece.
    """

    name = "fake"
    fingerprint = "f" * 64
    n_features = len(NAMES)
    removal = 0.0
    tokenizer = None
    context = 512

    def __init__(self) -> None:
        self.top_images = None
        self.atlas = tiny_atlas()
        # "animal" is near the cat and a bit the dog; their head rows point nearly the same way.
        self.encoder = SimpleNamespace(
            encode_texts=text_codes,
            text_trunk=SimpleNamespace(),
            image_head=SimpleNamespace(
                weight=torch.tensor([[1.0, 0.1], [1.0, 0.0]] + (len(NAMES) - 2) * [[0.0, 1.0]])
            ),
        )
        self.requests: list[Request] = []
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.closed_streams = 0
        self.stopped = 0  # answers that ended because nobody wanted them
        self.order: list[str] = []  # what the worker did: "answer", or the first word of a stream
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.pause_s = 0.0  # before each piece of a stream

    def encode(self, images: Sequence[Any]) -> Codes:
        self.threads.add(threading.get_ident())
        rows = torch.zeros(len(images) * 5, self.n_features)
        for i in range(len(images)):
            rows[5 * i, :3] = torch.tensor([3.0, 4.0, 0.0])
            rows[5 * i + 1, 0] = 12.0  # the dog is in the upper left cell
            rows[5 * i + 1 : 5 * i + 5, 1] = 4.0
        return Codes.from_dense(rows, (2, 2))

    def steer(self, codes: Codes, edits: Sequence[Edit]) -> Any:
        return SimpleNamespace(edited=EditedCodes.unchanged(codes), applied=(), warnings=())

    def answer(
        self, requests: Sequence[Request], *, unwanted: Callable[[int], bool] = lambda _: False
    ) -> list[Answer]:
        self.busy.set()
        until = time.monotonic() + 60
        while not self.gate.wait(0.005) and time.monotonic() < until:
            if all([unwanted(i) for i in range(len(requests))]):
                self.stopped += len(requests)
                break
        self.batches.append(len(requests))
        self.order.append("answer")
        return [self._answer(request) for request in requests]

    def stream(self, request: Request) -> Iterator[str | Answer]:
        try:
            answer = self._answer(request)
            for i, word in enumerate(answer.text.split(" ")):
                time.sleep(self.pause_s)
                self.order.append(_first_word(request))
                yield f" {word}" if i else word
                if "crack" in answer.text:
                    raise RuntimeError("secret")
            yield answer
        finally:
            self.closed_streams += 1

    def _answer(self, request: Request) -> Answer:
        self.threads.add(threading.get_ident())
        self.requests.append(request)
        parts = [part for message in request.messages for part in message.parts]
        images = [part.image for part in parts if isinstance(part, ImagePart)]
        codes = self.encode(images) if images else None
        asked = asked_edits(
            request, codes, self.atlas, self.fingerprint, lambda image: self.encode([image])
        )
        for i, edit in enumerate(asked.edits):
            if edit.concept == "unicorn":
                with asked.at_their_place():
                    raise SparsightError(
                        "no concept named 'unicorn'",
                        param=f"steering.edits[{i}].concept",
                        code="unknown_concept",
                    )
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        if "boom" in texts:
            raise RuntimeError("secret")
        edits = ", ".join(f"{edit.op} {edit.label}" for edit in asked.edits) or "no edits"
        words = f"{len(images)} photos, {edits}, asked {texts[-1]}".split(" ")
        kept = words[: request.sampling.max_tokens]
        receipt = make_receipt(
            fingerprint=self.fingerprint,
            images=[image.sha256 for image in images],
            edits=asked.edits,
            applied=(),
            codes=None if codes is None else EditedCodes.unchanged(codes),
            recipes=asked.recipes,
        )
        return Answer(
            text=" ".join(kept),
            finish_reason="stop" if kept == words else "length",
            n_prompt_tokens=7,
            n_completion_tokens=len(kept),
            receipt=receipt if request.want_receipt or request.is_steered else None,
        )


def _first_word(request: Request) -> str:
    part = request.messages[-1].parts[-1]
    return part.text.split()[0] if isinstance(part, TextPart) else ""


def photo_bytes(colour: str = "red", kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, kind)
    return out.getvalue()


def data_uri(content: bytes | None = None) -> str:
    content = photo_bytes() if content is None else content
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@contextmanager
def served(pipeline: Any, **options: Any) -> Iterator[str]:
    """The address of a live server over this pipeline."""
    with listening(create_app(pipeline, **options)) as url:
        yield url


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    return served


@pytest.fixture(scope="session")
def serve_relay() -> Callable[..., Any]:
    return listening


@pytest.fixture
def url(pipeline: FakePipeline) -> Iterator[str]:
    with served(pipeline, limits=Limits(max_body_bytes=100_000, max_tokens=100)) as address:
        yield address


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    """Of that server; patient, since a busy machine is no failure."""
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def uri() -> str:
    return data_uri()


@pytest.fixture(scope="session")
def as_uri() -> Callable[[bytes], str]:
    return data_uri


@pytest.fixture
def photo() -> Callable[..., bytes]:
    return photo_bytes
