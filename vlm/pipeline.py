"""The one way from photographs and edits to answers; CLI, server, page and batch all call it.

steerer.py has what comes before the language model, this what it writes. Not safe for threads: one
owner at a time.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.any_encoder import AnyEncoder, load_encoder
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.features.top_images_file import TopImages, read_top_images
from sparse_encoder.wheel import Progress
from vlm.answer_text import AnswerText, FinishReason, Piece
from vlm.decoding import Chosen, decode
from vlm.guide import Guides
from vlm.language_model import embed
from vlm.model_folder import DEFAULT_MODEL, read_model
from vlm.projector import Projector
from vlm.projector_file import load_projector, projector_config
from vlm.receipt import Receipt
from vlm.request import Request, caption_request
from vlm.sae_steering import read_features
from vlm.sampling import Guide, Sampling, TokenLogprob
from vlm.soft_prompt import SoftPrompt
from vlm.speaker import load_folder_llm
from vlm.steerer import Steered, Steerer
from vlm.template import DEFAULT_PROMPT, ImagePart, Message, TextPart, end_of_turn


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: FinishReason
    n_prompt_tokens: int
    n_completion_tokens: int
    receipt: Receipt | None
    logprobs: tuple[TokenLogprob, ...] = ()  # of the text's tokens, where asked for


@dataclass(frozen=True)
class _Prepared:
    prompt: Tensor  # (tokens, hidden)
    receipt: Receipt | None
    guide: Guide | None


class Pipeline(Steerer):
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
        super().__init__(name, fingerprint, encoder, atlas, projector, tokenizer)
        self.model = model
        self.top_images: TopImages | None = None  # of the atlas, where it came with them
        self._end = end_of_turn(tokenizer)
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
                projector_config(
                    folder.config["projector"],
                    read_features(encoder),
                    llm.config.hidden_size,
                    encoder.grid,
                ),
            ),
            llm,
            tokenizer,
        )
        pipeline.top_images = read_top_images(folder.path / "features", folder.fingerprint)
        return pipeline

    @property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return int(self.model.config.max_position_embeddings)

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
