"""From photographs and edits to the vectors that a language model reads, whichever engine runs it.

decode image -> encode -> edit -> project. Not safe for threads: one owner at a time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.any_encoder import AnyEncoder, is_dense
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from sparse_encoder.sae_encoder import SaeEncoder
from vlm.apply import AppliedEdit, apply_edits, steering_warnings
from vlm.asked_edits import AskedEdits, asked_edits
from vlm.changes import Change, EditedCodes
from vlm.claimed_doses import calibration_of
from vlm.concepts import ResolvedEdit, resolve
from vlm.dose_warnings import dose_warnings
from vlm.edits import Edit
from vlm.kept import Kept
from vlm.projector import Projector
from vlm.reach import DEFAULT_REACH, Reach
from vlm.receipt import make_receipt
from vlm.request import Request
from vlm.sae_steering import ReadThroughSae
from vlm.soft_prompt import SoftPrompt
from vlm.template import chat_images, chat_pieces
from vlm.watch import Watch

KEPT_IMAGES = 64  # images whose codes are kept, about 3 MB each
KEPT_PROMPTS = 64  # requests whose soft tokens are kept, about 0.2 MB an image
# Edits of requests whose features are kept: 20 kB an ablation, 0.5 MB one of a word like "object".
KEPT_EDITS = 64
KEPT_TEXTS = 32  # calls of the text tower whose codes are kept, 64 kB a concept at 8,192 features


@dataclass(frozen=True)
class Steered:
    """Codes of one request's images after its edits, and what the edits did."""

    edited: EditedCodes
    applied: tuple[AppliedEdit, ...]
    warnings: tuple[str, ...]

    @property
    def codes(self) -> Codes:
        """The edited codes, written out in full."""
        return self.edited.codes


class Steerer:
    """A model up to its language model, and what it made lately."""

    def __init__(
        self,
        name: str,
        fingerprint: str,
        encoder: AnyEncoder,
        atlas: FeatureAtlas,
        projector: Projector,
        tokenizer: Any,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.encoder = encoder
        self.atlas = atlas
        self.projector = projector
        self.tokenizer = tokenizer
        # Of a model whose features are an autoencoder's: what the projector reads in their place.
        self.reader = ReadThroughSae(encoder) if isinstance(encoder, SaeEncoder) else None
        self.reach: Reach = DEFAULT_REACH  # changed by bench/reach.py alone
        self.watch = Watch()
        # By everything that they depend on, see vlm/kept.py; /metrics has their counts.
        self.kept_codes: Kept[tuple[str, str], Codes] = Kept(KEPT_IMAGES)
        self.kept_sums: Kept[tuple[str, str], Tensor] = Kept(KEPT_IMAGES)
        self.kept_soft: Kept[tuple[str, str], Tensor] = Kept(KEPT_PROMPTS)
        self.kept_texts: Kept[tuple[str, ...], Tensor] = Kept(KEPT_TEXTS)
        self.kept_edits: Kept[
            tuple[str, FeatureAtlas, tuple[Edit, ...]], tuple[ResolvedEdit, ...]
        ] = Kept(KEPT_EDITS)

    @property
    def kept(self) -> dict[str, Kept[Any, Any]]:
        """All that is kept, by the name that /metrics has for it."""
        return {
            "codes": self.kept_codes,
            "sums": self.kept_sums,
            "soft_tokens": self.kept_soft,
            "texts": self.kept_texts,
            "edits": self.kept_edits,
        }

    @property
    def n_features(self) -> int:
        return self.encoder.config.features

    @property
    def removal(self) -> float:
        """Of the projector; 0 where features are an autoencoder's."""
        return 0.0 if self.reader else self.projector.config.removal

    def encode(self, images: Sequence[DecodedImage]) -> Codes:
        """Codes of the images in order; an image seen lately is not encoded again."""
        if not images:
            raise SparsightError("there is no image to encode; add one to the request")
        return Codes.cat([self._code(image) for image in images])

    def _code(self, image: DecodedImage) -> Codes:
        def make() -> Codes:
            began = time.perf_counter()
            made = self._encode(image)
            self.watch.encoded(time.perf_counter() - began)
            return made

        key = (self.fingerprint, image.sha256)
        if key in self.kept_codes:
            self.watch.recalled()
        return self.kept_codes.get(key, make)

    def _encode(self, image: DecodedImage) -> Codes:
        # A dense control has codes that `encode_images` refuses, for they cannot be steered.
        if is_dense(self.encoder):
            return self.encoder.codes_of_pixels(self.encoder.preprocess(image.pixels)[None])
        return self.encoder.encode_images([image])

    def steer(self, codes: Codes, edits: Sequence[Edit]) -> Steered:
        """The codes of one request's images after its edits; refuses what cannot be done in full."""
        if not edits:
            return Steered(EditedCodes.unchanged(codes), (), ())
        if is_dense(self.encoder):
            raise SparsightError(
                f"{self.name} has a dense encoder (activation identity), whose features mean nothing "
                "one by one; steer a model with a sparse one",
                param="steering",
                code="dense_encoder",
            )
        edited, applied = apply_edits(codes, self._resolve(tuple(edits)), reach=self.reach)
        for edit in edits:
            self.watch.edited(edit.op)
        above = dose_warnings(applied, edits, self.atlas)
        return Steered(edited, applied, (*steering_warnings(applied, self.atlas), *above))

    def _resolve(self, edits: tuple[Edit, ...]) -> tuple[ResolvedEdit, ...]:
        """Features and doses; a folder of photographs has the same edits for each."""
        key = (self.fingerprint, self.atlas, edits)  # an atlas is equal to itself alone
        return self.kept_edits.get(key, lambda: resolve(edits, self.atlas, self._encode_texts))

    def _encode_texts(self, texts: list[str]) -> Tensor:
        """Codes (texts, features); what was asked for lately is not encoded again.

        Kept by all texts of a call: what else is in a batch may change the last bits of a code, and
        a receipt has to come out the same at any time.
        """
        key = (self.fingerprint, *texts)
        return self.kept_texts.get(key, lambda: self.encoder.encode_texts(texts))

    def asked_edits(self, codes: Codes, request: Request) -> AskedEdits:
        """All edits of a request whose images have these codes."""
        return asked_edits(
            request, codes, self.atlas, self.fingerprint, lambda photo: self.encode([photo])
        )

    @torch.inference_mode()
    def soft_prompt(self, request: Request) -> SoftPrompt:
        """What a request puts before the language model, whichever engine runs that."""
        images = chat_images(request.messages)
        if request.is_steered and not images:
            raise SparsightError(
                "steering changes the codes of images, and this request has none; add an image "
                "or leave steering out",
                param="steering",
                code="steering_without_image",
            )
        request.check_codes()
        pieces = chat_pieces(request.messages, self.tokenizer)
        if not images:
            empty = make_receipt(
                fingerprint=self.fingerprint,
                images=[],
                edits=(),
                applied=(),
                codes=None,
            )
            return SoftPrompt(pieces, (), empty if request.want_receipt else None)
        codes = self.encode(images) if request.codes is None else request.codes
        asked = self.asked_edits(codes, request)
        with asked.at_their_place():
            steered = self.steer(codes, asked.edits)
        receipt = None
        if request.is_steered or request.want_receipt:
            receipt = make_receipt(
                fingerprint=self.fingerprint,
                images=[i.sha256 for i in images],
                edits=asked.edits,
                applied=steered.applied,
                codes=steered.edited,
                warnings=steered.warnings,
                reach=self.reach,
                recipes=asked.recipes,
                calibration=calibration_of(self.atlas),
                removal=self.removal,
            )
        read = steered.edited
        if self.reader is not None and request.codes is None:
            read = EditedCodes.unchanged(self.reader(images, codes, steered.codes))
        return SoftPrompt(pieces, tuple(self._soft(read)), receipt)

    def _soft(self, edited: EditedCodes) -> Tensor:
        key = (self.fingerprint, edited.sha256())
        return self.kept_soft.get(key, lambda: self.edited_soft_tokens(edited))

    def soft_tokens(self, codes: Codes) -> Tensor:
        """Input vectors (images, tokens, hidden) of the language model."""
        return self._finished(self.projector.sums(codes))

    def edited_soft_tokens(self, edited: EditedCodes) -> Tensor:
        """As `soft_tokens` of the edited codes, but for rounding; those are not written out."""
        images = enumerate(edited.changes)
        sums = [self._sums(edited.base.image(i), change) for i, change in images]
        return self._finished(torch.cat(sums))

    def _sums(self, codes: Codes, change: Change | None) -> Tensor:
        """Those of the projector for one image (1, tokens, hidden), kept by its codes before edits."""
        key = (self.fingerprint, codes.sha256())
        sums = self.kept_sums.get(key, lambda: self.projector.sums(codes))
        return sums if change is None else self.projector.edited_sums(sums, change, codes.grid)

    def _finished(self, sums: Tensor) -> Tensor:
        soft = self.projector.finish(sums)
        if not bool(torch.isfinite(soft).all()):
            raise SparsightError(
                "the edited codes give soft tokens that are not finite; lower the doses",
                param="steering",
            )
        return soft
