"""What the captioner is trained on: rows made from photographs, labels, questions and captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.dataset import Sample
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.trunk_cache import CachedImages
from vlm.concept_swaps import SwapTable
from vlm.edited_codes import CodeEditor, EditShares, disturbed
from vlm.packing import Branch, Row
from vlm.template import (
    DEFAULT_PROMPT,
    SUBJECT_PROMPT,
    ImagePart,
    Message,
    TextPart,
    chat_pieces,
    end_of_turn,
)
from vlm.text_codes import TextCodes

_LABEL_CAPTIONS = ("A {}.", "A photo of a {}.")


class RowMaker:
    """Draws training rows; every draw depends on its generator alone, so a run can be resumed."""

    def __init__(
        self,
        encoder: SparseEncoder,
        atlas: FeatureAtlas,
        tokenizer: Any,
        images: CachedImages,
        captions: Sequence[str],
        caption_vectors: Tensor,
        text_codes: TextCodes,
        swaps: SwapTable,
        edits: EditShares,
    ) -> None:
        """caption_vectors: pooled text vectors (captions, width) in step with `captions`."""
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.images = images
        self.captions = captions
        self.caption_vectors = caption_vectors
        self.text_codes = text_codes
        self.swaps = swaps
        self.edits = edits
        self.editor = CodeEditor(atlas, encoder.encode_texts, edits)
        self._end = end_of_turn(tokenizer)
        self._pieces: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        kinds = [_kind(s) for s in images.samples]
        self.by_kind = {
            k: [i for i, x in enumerate(kinds) if x == k] for k in ("caption", "label", "qa")
        }

    def image_row(self, i: int, random: np.random.Generator) -> Row:
        """A row about photograph i: its captions, its label or its questions."""
        sample, codes = self.images.samples[i], self.codes_of(i)
        if random.random() < 0.15:
            codes = codes.global_only()  # ties the global token to captions without pictures
        if sample.label is not None:
            return self._label_row(codes, sample, random)
        if sample.captions_by_rule:
            return self._qa_row(codes, sample, random)
        captions = list(sample.captions)
        if random.random() < self.edits.swap:
            swapped = self._swap(codes, captions[random.integers(len(captions))], random)
            if swapped is not None:
                codes, caption = swapped
                captions = [caption]
        return self._row(disturbed(codes, self.edits, random), DEFAULT_PROMPT, captions)

    def text_row(self, i: int, random: np.random.Generator) -> Row:
        """A row about caption i, whose own code stands in for a photograph's."""
        caption = self.captions[i]
        code = self.encoder.text_head(self.caption_vectors[i].float())
        other = None
        if len(self.images):
            other = self.codes_of(int(random.integers(len(self.images))), with_cells=False).dense()[
                0
            ]
        codes = self.text_codes.noisy(code.detach(), other, random)
        if random.random() < self.edits.swap:
            swapped = self._swap(codes, caption, random)
            if swapped is not None:
                codes, caption = swapped
        return self._row(disturbed(codes, self.edits, random), DEFAULT_PROMPT, [caption])

    @torch.no_grad()
    def codes_of(self, i: int, with_cells: bool = True) -> Codes:
        cells = self.images.cells(i)
        if with_cells:
            return self.encoder.code_of_cells(cells)
        return Codes.from_dense(self.encoder.image_head(cells.mean(0, keepdim=True)))

    def _label_row(self, codes: Codes, sample: Sample, random: np.random.Generator) -> Row:
        """One code, two questions: what the photograph shows, and its main subject."""
        subject = sample.label or ""
        if random.random() < self.edits.swap:
            swapped = self._swap(codes, subject, random)
            if swapped is not None:
                codes, subject = swapped
        caption = _LABEL_CAPTIONS[random.integers(len(_LABEL_CAPTIONS))].format(subject)
        before, described = self._cut(DEFAULT_PROMPT)
        _, named = self._cut(SUBJECT_PROMPT)
        branches = (
            Branch(described, self._answer(_articled(caption))),
            Branch(named, self._answer(subject)),
        )
        return Row(disturbed(codes, self.edits, random), before, (), branches)

    def _qa_row(self, codes: Codes, sample: Sample, random: np.random.Generator) -> Row:
        branches = []
        before, _ = self._cut(DEFAULT_PROMPT)
        for question, answer in sample.qa[:4]:
            _, after = self._cut(question)
            branches.append(Branch(after, self._answer(answer)))
        return Row(disturbed(codes, self.edits, random), before, (), tuple(branches))

    def _row(self, codes: Codes, prompt: str, answers: Sequence[str]) -> Row:
        before, after = self._cut(prompt)
        # The prefix's last token is repeated in each branch: it is the one that predicts the
        # answer's first token, and that differs from branch to branch.
        shared, last = (after, ()) if len(answers) == 1 else (after[:-1], after[-1:])
        return Row(codes, before, shared, tuple(Branch(last, self._answer(a)) for a in answers))

    def _cut(self, prompt: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids before and after the soft tokens of a one-turn chat."""
        if prompt not in self._pieces:
            image: Any = None  # only its place is needed
            chat = [Message("user", (ImagePart(image), TextPart(prompt)))]
            before, after = chat_pieces(chat, self.tokenizer)
            self._pieces[prompt] = (tuple(before), tuple(after))
        return self._pieces[prompt]

    def _answer(self, text: str) -> tuple[int, ...]:
        return (*self.tokenizer(_tidy(text), add_special_tokens=False)["input_ids"], self._end)

    def _swap(
        self, codes: Codes, caption: str, random: np.random.Generator
    ) -> tuple[Codes, str] | None:
        """Codes and caption with one thing swapped in both; None where that is not possible."""
        swap = self.swaps.draw(caption, random, self.edits.suppress, self.edits.insert)
        if swap is None:
            return None
        edited = self.editor.swapped(codes, swap, random)
        return None if edited is None else (edited, swap.caption)


def _kind(sample: Sample) -> str:
    if sample.label is not None:
        return "label"
    return "qa" if sample.captions_by_rule else "caption"


def _articled(text: str) -> str:
    """ "A elephant" to "An elephant"."""
    for wrong, right in (("A ", "An "), (" a ", " an ")):
        at = text.find(wrong)
        if at >= 0 and text[at + len(wrong) : at + len(wrong) + 1].lower() in "aeio":
            text = text[:at] + right + text[at + len(wrong) :]
    return text


def _tidy(text: str) -> str:
    """One way to write: spaces before stops away, a capital first, no trailing blanks."""
    text = " ".join(text.split())
    for stop in (" .", " ,", " !", " ?"):
        text = text.replace(stop, stop[1])
    text = text[:1].upper() + text[1:]
    whole = text.endswith((".", "!", "?")) or text.count(" ") < 2  # a label is no sentence
    return text if whole else text + "."
