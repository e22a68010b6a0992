"""What a pretraining run measures on pairs and labels that it does not train on.

Each rank runs its share of the photographs through the trunks; the narrow trunk outputs are
gathered, and codes are made from them block by block (see `CodeRows`), so that no set's codes are
held. Retrieval counts ties against us, as the evaluation report does.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.code_rows import CodeRows
from sparse_encoder.evaluation.retrieval import recall
from sparse_encoder.evaluation.sparsity import SparsityStats
from sparse_encoder.evaluation.zeroshot import TopKHits, class_codes
from sparse_encoder.pretrain.config import PretrainRun
from sparse_encoder.pretrain.pair_stream import (
    BAD_TEXT,
    Pair,
    SkipCounts,
    read_image,
    read_label,
    read_pair,
    samples_once,
)
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.text import Tokens

T = TypeVar("T")


@dataclass
class Validator:
    """The shards that a run is judged on. Every rank has one; all call `measure` together."""

    run: PretrainRun
    accelerator: Accelerator
    pairs: Sequence[str] = ()  # shards of image-text pairs
    labelled: Sequence[str] = ()  # shards whose samples have a label
    skipped: SkipCounts = field(default_factory=SkipCounts)
    _classes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.pairs or self.labelled)

    @torch.no_grad()
    def measure(self, clip: SparseClip) -> dict[str, float]:
        """Shares in [0, 1] and L0, of the same photographs every time. `clip` must be whole here.

        Raises SparsightError where the shards hold no pair, or no label.
        """
        was_training = clip.training
        clip.eval()
        try:
            return {
                **(self._retrieval(clip) if self.pairs else {}),
                **(self._zeroshot(clip) if self.labelled else {}),
            }
        finally:
            clip.train(was_training)

    def _retrieval(self, clip: SparseClip) -> dict[str, float]:
        images, texts = [], []
        for part in self._in_step(_parts(self._own_pairs(), self.run.micro_batch)):
            images.append(self._image_vectors(clip, [pair.image for pair in part]))
            texts.append(self._text_vectors(clip, [pair.text for pair in part]))
        image = CodeRows(self._of_all_ranks(images), clip.image_head)
        text = CodeRows(self._of_all_ranks(texts), clip.text_head)
        if not len(image):
            raise SparsightError(
                f"no readable pair in the validation shards, {self.pairs[0]} among them (left out: "
                f"{self.skipped.totals()})",
                param="val_shards",
            )
        found = recall(text, image, torch.arange(len(image)), (1,))
        return {
            "val pairs": len(image),
            "val R@1 text to image": found["t2i@1"],
            "val R@1 image to text": found["i2t@1"],
            **self._sparsity("image", image, clip.features),
            **self._sparsity("text", text, clip.features),
        }

    def _sparsity(self, side: str, rows: CodeRows, features: int) -> dict[str, float]:
        stats = SparsityStats(features, thresholds=(0.0,))
        for _, code in rows.batches():
            stats.add(code)
        found = stats.summary(0.0)
        return {f"val {side} L0": found.l0, f"val {side} features silent": found.dead_features}

    def _zeroshot(self, clip: SparseClip) -> dict[str, float]:
        if not self._classes:
            self._classes = self._all_labels()
        places = {name: i for i, name in enumerate(self._classes)}

        def encode(texts: list[str]) -> Tensor:
            code: Tensor = clip.text_head(self._text_vectors(clip, texts))
            return code

        hits = TopKHits(class_codes(self._classes, encode), (1,))
        l0 = 0.0
        for part in self._in_step(_parts(self._own_labelled(), self.run.micro_batch)):
            vectors = self._image_vectors(clip, [image for image, _ in part])
            labels = torch.tensor([places[label] for _, label in part], dtype=torch.long)
            for index, code in CodeRows(vectors, clip.image_head).batches():
                hits.add(code, labels[index])
                l0 += float((code > 0).sum())
        counts = torch.tensor(
            [float(hits.hits.get(1, 0)), float(hits.n), l0], device=self.accelerator.device
        )
        n_right, n, l0 = self.accelerator.reduce(counts, "sum").tolist()
        if not n:
            raise SparsightError(
                f"no readable picture in the zero-shot shards, {self.labelled[0]} among them (left "
                f"out: {self.skipped.totals()})",
                param="zeroshot_shards",
            )
        return {
            "zero-shot images": n,
            "zero-shot classes": len(self._classes),
            "zero-shot top-1": n_right / n,
            "zero-shot image L0": l0 / n,
        }

    def _own_pairs(self) -> Iterator[Pair]:
        """This rank's share of the first `val_pairs` samples, each with a text that its key picks."""
        for sample in self._own(islice(samples_once(self.pairs, self.skipped), self.run.val_pairs)):
            pair = read_pair(sample, random.Random(str(sample["__key__"])), self.skipped.skip)
            if pair is not None:
                yield pair

    def _own_labelled(self) -> Iterator[tuple[Image.Image, str]]:
        for sample in self._own(samples_once(self.labelled, self.skipped)):
            image, label = read_image(sample, self.skipped.skip), self._label(sample)
            if image is not None and label is not None:
                yield image, label

    def _own(self, samples: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
        return islice(samples, self.accelerator.process_index, None, self.accelerator.num_processes)

    def _all_labels(self) -> list[str]:
        found = {self._label(sample) for sample in samples_once(self.labelled, self.skipped)}
        names = sorted(name for name in found if name is not None)
        if len(names) < 2:
            raise SparsightError(
                f"the zero-shot shards, {self.labelled[0]} among them, have {len(names)} labels "
                f"(left out: {self.skipped.totals()}); expected KEY.json with a label beside each "
                "KEY.jpg, and two classes or more",
                param="zeroshot_shards",
            )
        return names

    def _label(self, sample: dict[str, object]) -> str | None:
        try:
            return read_label(sample)
        except BAD_TEXT as error:
            self.skipped.skip("text", f"{sample.get('__key__')}: {error!r}")
            return None

    def _in_step(self, parts: Iterator[list[T]]) -> Iterator[list[T]]:
        """Own parts, then empty ones while another rank has some: all call a sharded trunk together."""
        while True:
            part = next(parts, [])
            more = torch.tensor(float(len(part)), device=self.accelerator.device)
            if not self.accelerator.reduce(more, "sum"):
                return
            yield part

    def _image_vectors(self, clip: SparseClip, images: Sequence[Image.Image]) -> Tensor:
        """Trunk outputs (images, width), fp32; the trunk is called for no image too."""
        size = (clip.image_trunk.size,) * 2
        pixels = clip.image_trunk.preprocess(images or [Image.new("RGB", size)])
        with self.accelerator.autocast():
            found = clip.image_trunk_output(pixels.to(self.accelerator.device))
        return found[: len(images)].float()

    def _text_vectors(self, clip: SparseClip, texts: Sequence[str]) -> Tensor:
        """Trunk outputs (texts, width), fp32, a micro-batch at a time; the trunk is called for none too."""
        parts = []
        for some in _parts(iter(texts or ["a"]), self.run.micro_batch):
            tokens = Tokens(
                *(t.to(self.accelerator.device) for t in clip.text_trunk.tokenize(some))
            )
            with self.accelerator.autocast():
                parts.append(clip.text_trunk_output(tokens).float())
        return torch.cat(parts)[: len(texts)]

    def _of_all_ranks(self, parts: Sequence[Tensor]) -> Tensor:
        """Rows of all ranks, rank after rank, however many each has."""
        own = torch.cat(list(parts)) if parts else None
        size = torch.tensor(
            [[0, 0] if own is None else list(own.shape)], device=self.accelerator.device
        )
        sizes = self.accelerator.gather(size)
        if own is None:  # this rank has no photograph, others may
            own = torch.zeros(0, int(sizes[:, 1].max()), device=self.accelerator.device)
        padded = torch.zeros(int(sizes[:, 0].max()), own.shape[1], device=own.device)
        padded[: len(own)] = own
        rows = self.accelerator.gather(padded).reshape(len(sizes), len(padded), own.shape[1])
        return torch.cat([part[:n] for part, n in zip(rows, sizes[:, 0].tolist(), strict=True)])


def _parts(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while part := list(islice(items, size)):
        yield part
