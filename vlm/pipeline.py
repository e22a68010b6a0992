"""The one way from photographs and edits to answers; CLI, server, page and batch all call it.

decode image -> encode -> edit -> project -> generate. Not safe for threads: one owner at a time.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.any_encoder import AnyEncoder, is_dense, load_encoder
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.features.top_images_file import TopImages, read_top_images
from sparse_encoder.image import DecodedImage
from sparse_encoder.sae_encoder import SaeEncoder
from sparse_encoder.wheel import Progress
from vlm.answer_text import AnswerText, FinishReason, Piece
from vlm.apply import AppliedEdit, apply_edits, steering_warnings
from vlm.asked_edits import AskedEdits, asked_edits
from vlm.claimed_doses import calibration_of
from vlm.concepts import resolve
from vlm.decoding import Chosen, decode
from vlm.dose_warnings import dose_warnings
from vlm.edits import Edit
from vlm.guide import Guides
from vlm.kept import Kept
from vlm.language_model import embed
from vlm.model_folder import DEFAULT_MODEL, read_model
from vlm.projector import Projector, ProjectorConfig
from vlm.projector_file import load_projector
from vlm.reach import DEFAULT_REACH, Reach
from vlm.receipt import Receipt, make_receipt
from vlm.request import Request, caption_request
from vlm.sae_steering import ReadThroughSae, read_features
from vlm.sampling import Guide, Sampling, TokenLogprob
from vlm.soft_prompt import SoftPrompt
from vlm.speaker import load_folder_llm
from vlm.template import (
    DEFAULT_PROMPT,
    ImagePart,
    Message,
    TextPart,
    chat_images,
    chat_pieces,
    end_of_turn,
)
from vlm.watch import Watch

KEPT_IMAGES = 64  # images whose codes are kept, about 0.3 MB each
KEPT_PROMPTS = 64  # requests whose soft tokens are kept, about 0.2 MB an image
KEPT_TEXTS = 32  # calls of the text tower whose codes are kept, 64 kB a concept at 8,192 features


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: FinishReason
    n_prompt_tokens: int
    n_completion_tokens: int
    receipt: Receipt | None
    logprobs: tuple[TokenLogprob, ...] = ()  # of the text's tokens, where asked for


@dataclass(frozen=True)
class Steered:
    """Codes of one request's images after its edits, and what the edits did."""

    codes: Codes
    applied: tuple[AppliedEdit, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Prepared:
    prompt: Tensor  # (tokens, hidden)
    receipt: Receipt | None
    guide: Guide | None


class Pipeline:
    """A loaded model."""

    def __init__(
        self,
        name: str,
        fingerprint: str,
        encoder: AnyEncoder,
        atlas: FeatureAtlas,
        projector: Projector,
        model: Any,
        tokenizer: Any,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.encoder = encoder
        self.atlas = atlas
        self.projector = projector
        self.model = model
        self.tokenizer = tokenizer
        self.top_images: TopImages | None = None  # of the atlas, where it came with them
        # Of a model whose features are an autoencoder's: what the projector reads in their place.
        self.reader = ReadThroughSae(encoder) if isinstance(encoder, SaeEncoder) else None
        self.reach: Reach = DEFAULT_REACH  # changed by bench/reach.py alone
        self.watch = Watch()
        self._end = end_of_turn(tokenizer)
        # By everything that they depend on, see vlm/kept.py; /metrics has their counts.
        self.kept_codes: Kept[tuple[str, str], Codes] = Kept(KEPT_IMAGES)
        self.kept_soft: Kept[tuple[str, str], Tensor] = Kept(KEPT_PROMPTS)
        self.kept_texts: Kept[tuple[str, ...], Tensor] = Kept(KEPT_TEXTS)
        self._guides = Guides(tokenizer, int(model.config.vocab_size), self._end)

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        progress: Progress | None = None,
        speaks: bool = True,
    ) -> "Pipeline":
        """From a model's name or folder; parts that are missing in the cache are assembled.

        speaks: otherwise the language model has no weights, for a process that makes soft prompts
        (`soft_prompt`) for a `vlm.speaker.Speaker` elsewhere.
        """
        folder = read_model(model)
        encoder = load_encoder(folder.path, progress)
        llm, tokenizer = load_folder_llm(folder, progress, with_weights=speaks)
        pipeline = cls(
            folder.name,
            folder.fingerprint,
            encoder,
            FeatureAtlas.load(folder.path / "features", fingerprint=folder.fingerprint),
            load_projector(
                folder.path,
                ProjectorConfig(
                    read_features(encoder),
                    llm.config.hidden_size,
                    encoder.grid,
                    tuple(folder.config["projector"]["groups"]),
                ),
            ),
            llm,
            tokenizer,
        )
        pipeline.top_images = read_top_images(folder.path / "features", folder.fingerprint)
        return pipeline

    @property
    def n_features(self) -> int:
        return self.encoder.config.features

    @property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return int(self.model.config.max_position_embeddings)

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
            return Steered(codes, (), ())
        if is_dense(self.encoder):
            raise SparsightError(
                f"{self.name} has a dense encoder (activation identity), whose features mean nothing "
                "one by one; steer a model with a sparse one",
                param="steering",
                code="dense_encoder",
            )
        resolved = resolve(edits, self.atlas, self._encode_texts)
        edited, applied = apply_edits(codes, resolved, reach=self.reach)
        for edit in edits:
            self.watch.edited(edit.op)
        above = dose_warnings(applied, resolved, self.atlas)
        return Steered(edited, applied, (*steering_warnings(applied, self.atlas), *above))

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

    def answer(
        self, requests: Sequence[Request], *, unwanted: Callable[[int], bool] = lambda _: False
    ) -> list[Answer]:
        """One answer a request, generated as one batch.

        unwanted: asked after each token of an unfinished answer, by the request's place; where it
        is true that answer ends there, half said.
        """
        if not requests:
            return []
        prepared = [self._prepare(r) for r in requests]
        texts = [AnswerText(self.tokenizer, self._end, r.sampling.stop) for r in requests]
        began = time.perf_counter()

        def over(i: int) -> bool:
            return texts[i].finish is not None or unwanted(i)

        for step in self._steps(prepared, requests, over):
            for i, token, logprob in step:
                texts[i].add(token, logprob)
        n_tokens = sum(text.n_tokens for text in texts)
        self.watch.generated(time.perf_counter() - began, n_tokens)
        for text in texts:
            text.close()
        return [_answer(t, p) for t, p in zip(texts, prepared, strict=True)]

    def stream(self, request: Request) -> Iterator[Piece | Answer]:
        """Pieces of the answer's text as they come, then the whole Answer."""
        prepared = self._prepare(request)
        text = AnswerText(self.tokenizer, self._end, request.sampling.stop)
        spent, began = 0.0, time.perf_counter()
        for step in self._steps([prepared], [request]):
            text.add(step[0].token, step[0].logprob)
            spent += time.perf_counter() - began
            if piece := text.fresh():
                yield piece
            began = time.perf_counter()  # not while others have the model
            if text.finish is not None:
                break
        self.watch.generated(spent, text.n_tokens)
        text.close()
        piece = text.fresh()
        if piece or piece.logprobs:
            yield piece
        yield _answer(text, prepared)

    def _steps(
        self,
        prepared: Sequence[_Prepared],
        requests: Sequence[Request],
        over: Callable[[int], bool] = lambda _: False,
    ) -> Iterator[list[Chosen]]:
        prompts = [p.prompt for p in prepared]
        guides = [p.guide for p in prepared]
        return decode(self.model, prompts, [r.sampling for r in requests], self._end, guides, over)

    @torch.inference_mode()
    def _prepare(self, request: Request) -> _Prepared:
        guide = self._guides.of(request.sampling.json_schema)
        asked = self.soft_prompt(request)
        vectors = [embed(self.model, asked.pieces[0])]
        for soft, after in zip(asked.soft, asked.pieces[1:], strict=True):
            vectors += [soft, embed(self.model, after)]
        return _Prepared(torch.cat(vectors), asked.receipt, guide)

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
                before=None,
                after=None,
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
                before=codes,
                after=steered.codes,
                warnings=steered.warnings,
                reach=self.reach,
                recipes=asked.recipes,
                calibration=calibration_of(self.atlas),
            )
        read = steered.codes
        if self.reader is not None and request.codes is None:
            read = self.reader(images, codes, steered.codes)
        return SoftPrompt(pieces, tuple(self._soft(read)), receipt)

    def _soft(self, codes: Codes) -> Tensor:
        key = (self.fingerprint, codes.sha256())
        return self.kept_soft.get(key, lambda: self.soft_tokens(codes))

    def soft_tokens(self, codes: Codes) -> Tensor:
        """Input vectors (images, tokens, hidden) of the language model."""
        soft: Tensor = self.projector(codes)
        if not bool(torch.isfinite(soft).all()):
            raise SparsightError(
                "the edited codes give soft tokens that are not finite; lower the doses",
                param="steering",
            )
        return soft


def _answer(text: AnswerText, prepared: _Prepared) -> Answer:
    return Answer(
        text.text,
        text.finish or "length",
        len(prepared.prompt),
        text.n_tokens,
        prepared.receipt,
        text.logprobs,
    )


__all__ = [
    "DEFAULT_PROMPT",
    "Answer",
    "ImagePart",
    "Message",
    "Pipeline",
    "Request",
    "Sampling",
    "SoftPrompt",
    "Steered",
    "TextPart",
    "caption_request",
]
