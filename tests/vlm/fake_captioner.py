"""A pipeline that captions by rule, so that every rate of an evaluation is known beforehand."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage, decode_image
from vlm.apply import AppliedEdit
from vlm.edits import Edit

N_FEATURES = 100
FEATURES_OF = {"dog": (3, 7), "cat": (5, 8)}


@dataclass(frozen=True)
class FakeSample:
    key: str
    image: bytes
    captions: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True)
class FakeRequest:
    image: DecodedImage
    prompt: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class FakeAnswer:
    text: str
    finish_reason: str = "stop"

    @property
    def n_completion_tokens(self) -> int:
        return len(self.text.split()) + 1


@dataclass(frozen=True)
class FakeSteered:
    applied: tuple[AppliedEdit, ...]


def fake_sample(number: int, **fields: Any) -> FakeSample:
    """A sample whose photograph differs from that of every other number."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 100, 200)).save(content, "PNG")
    return FakeSample(f"image-{number:03}", content.getvalue(), **fields)


def fake_request(
    image: DecodedImage, *, prompt: str = "Describe the image.", edits: tuple[Edit, ...] = ()
) -> FakeRequest:
    return FakeRequest(image, prompt, edits)


def fake_atlas() -> FeatureAtlas:
    """100 features of growing density; 90 to 99 are dead."""
    number = np.arange(N_FEATURES, dtype=np.float32)
    live = number < 90
    return FeatureAtlas(
        fingerprint="f" * 64,
        names=[""] * N_FEATURES,
        runner_up=[[]] * N_FEATURES,
        name_score=0 * number,
        density=np.where(live, (number + 1) / 1000, 0).astype(np.float32),
        p50=live * (1 + number % 10),
        p90=live * 2.0,
        p99=live * 3.0,
        max=live * 4.0,
        modality=0 * number,
        vocabulary=frozenset({"dog", "cat"}),
    )


@dataclass
class FakeCaptioner:
    """Says plain[key] of an unsteered image and steered[key] when a *concept* is edited.

    Edits by feature index change nothing, a prompt that says "Mention" gives prompted[key].
    """

    samples: Sequence[FakeSample]
    plain: dict[str, str]
    steered: dict[str, str] = field(default_factory=dict)
    prompted: dict[str, str] = field(default_factory=dict)
    cut_off: frozenset[str] = frozenset()  # texts that end at the token limit
    batch_sizes: list[int] = field(default_factory=list)
    requests: list[FakeRequest] = field(default_factory=list)
    fingerprint: str = "f" * 64
    atlas: FeatureAtlas = field(default_factory=fake_atlas)

    def answer(self, requests: Sequence[FakeRequest]) -> list[FakeAnswer]:
        self.batch_sizes.append(len(requests))
        self.requests.extend(requests)
        return [self._one(request) for request in requests]

    def encode(self, images: Sequence[DecodedImage]) -> Codes:
        return Codes.from_dense(torch.ones(len(images), N_FEATURES))

    def steer(self, codes: Codes, edits: Sequence[Edit]) -> FakeSteered:
        return FakeSteered(
            tuple(
                AppliedEdit(i, 0, feature, "", edit.op, None, None, None, 1.0, 0.0, 1)
                for i, edit in enumerate(edits)
                for feature in FEATURES_OF[str(edit.concept)]
            )
        )

    def _one(self, request: FakeRequest) -> FakeAnswer:
        key = next(
            sample.key
            for sample in self.samples
            if decode_image(sample.image).sha256 == request.image.sha256
        )
        text = self.plain[key]
        if any(edit.concept for edit in request.edits):
            text = self.steered.get(key, text)
        elif "ention" in request.prompt:
            text = self.prompted.get(key, text)
        return FakeAnswer(text, "length" if text in self.cut_off else "stop")
