"""Samples of a run: photographs made ready, rows of tokens, and the swap that may be made in both.

Which samples a step gets depends on (seed, step, rank) and the number of workers alone, so a run that
was killed goes on with the same ones. A photograph or text that cannot be read is left out, logged and
counted.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from sparse_encoder.any_encoder import AnyEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import ImageError, decode_image
from sparse_encoder.pretrain.pair_stream import (
    BAD_TEXT,
    PairStream,
    Skip,
    SkipCounts,
    draw_text,
    read_image,
)
from vlm.concept_swaps import Swap, SwapTable
from vlm.packing import Laid
from vlm.tuning.config import TuneRun
from vlm.tuning.conversations import Conversation
from vlm.tuning.rows import RowLayout
from vlm.tuning.schedule import Schedule


@dataclass(frozen=True)
class Sample:
    """One captioned image or conversation. Row n speaks of the first images that it has gaps for."""

    where: str  # key or file and item, for reports
    pixels: tuple[Tensor, ...]  # preprocessed
    rows: tuple[Laid, ...]
    seed: int  # of whatever is random about its codes
    swap: tuple[Swap, Laid] | None = None  # of one caption, and the row where it is made


class Samples:
    """The samples of one rank, step by step."""

    def __init__(
        self,
        run: TuneRun,
        schedule: Schedule,
        layout: RowLayout,
        encoder: AnyEncoder,
        urls: Sequence[str],
        conversations: Sequence[Conversation],
        swaps: SwapTable | None,
        *,
        rank: int,
        n_ranks: int,
        skipped: SkipCounts,
    ) -> None:
        """urls: of captioned shards. swaps: None where no concept is swapped."""
        self.run = run
        self.schedule = schedule
        self.urls = urls
        self.rank, self.n_ranks = rank, n_ranks
        self.skipped = skipped
        self.n_soft = layout.n_soft  # soft tokens an image
        self._captions = ReadCaptions(run, layout, encoder, swaps)
        self._conversations = _Conversations(conversations, layout, encoder, run.seed, skipped)
        _try_template(conversations, layout)

    def batches(self, start: int) -> Iterator[list[Sample]]:
        """For each step from `start` on, the samples of this rank; new streams at each stage."""
        step = start
        while step < self.schedule.steps:
            first, second = self.schedule.stage_steps
            end = first if step < first else first + second
            yield from self._stage(step, end)
            step = end

    def _stage(self, start: int, end: int) -> Iterator[list[Sample]]:
        mix = self.schedule.mix(start, self.n_ranks)
        nothing: Iterator[list[Sample]] = repeat([])
        captions = self._stream(start, mix.captions) if mix.captions else nothing
        talks = self._rounds(start, end, mix.conversations) if mix.conversations else nothing
        for _ in range(start, end):
            yield next(captions) + next(talks)

    def _stream(self, start: int, size: int) -> Iterator[list[Sample]]:
        stream = PairStream(
            self.urls,
            _same,
            seed=self.run.seed,
            start=start,
            rank=self.rank,
            buffer=self.run.buffer,
            skipped=self.skipped,
            read=self._captions,
        )
        return iter(
            DataLoader(
                stream,
                batch_size=size,
                collate_fn=_readable,
                num_workers=self.run.workers,
            )
        )

    def _rounds(self, start: int, end: int, size: int) -> Iterator[list[Sample]]:
        whole = size * self.n_ranks
        before = self.schedule.conversations_before(start)
        places = [
            list(range(at := before + n * whole + self.rank * size, at + size))
            for n in range(end - start)
        ]
        return iter(
            DataLoader(
                self._conversations,
                batch_sampler=places,
                collate_fn=_readable,
                num_workers=self.run.workers,
            )
        )


class ReadCaptions:
    """A raw sample of a shard to a `Sample`; runs in loading processes."""

    def __init__(
        self, run: TuneRun, layout: RowLayout, encoder: AnyEncoder, swaps: SwapTable | None
    ) -> None:
        self.run = run
        self.layout = layout
        self.encoder = encoder
        self.swaps = swaps

    def __call__(self, raw: dict[str, Any], chance: random.Random, skip: Skip) -> Sample | None:
        key = str(raw.get("__key__"))
        try:
            captions = draw_captions(raw, chance, self.run.captions)
            row = self.layout.captions(self.run.prompt, captions)
        except BAD_TEXT as error:
            skip("text", f"{key}: {error!r}")
            return None
        if row is None:
            skip("text", f"{key}: no answer fits in {self.run.max_tokens} tokens")
            return None
        image = read_image(raw, skip)
        if image is None:
            return None
        seed = chance.getrandbits(32)
        pixels = (self.encoder.preprocess(image),)
        return Sample(key, pixels, (row,), seed, self._swap(captions, seed))

    def _swap(self, captions: Sequence[str], seed: int) -> tuple[Swap, Laid] | None:
        chance = np.random.default_rng((seed, 1))
        if self.swaps is None or chance.random() >= self.run.edits.swap:
            return None
        caption = captions[int(chance.integers(len(captions)))]
        edits = self.run.edits
        swap = self.swaps.draw(caption, chance, edits.suppress, edits.insert)
        row = swap and self.layout.captions(self.run.prompt, [swap.caption])
        return (swap, row) if swap and row else None


def draw_captions(raw: dict[str, Any], chance: random.Random, most: int) -> list[str]:
    """Up to `most` captions of a raw sample; raises one of BAD_TEXT where it has none.

    A sample with a label or a text has one, as `draw_text` makes it.
    """
    meta = json.loads(raw["json"].decode("utf-8")) if "json" in raw else {}
    captions = meta.get("captions", [])
    if not isinstance(captions, list):
        raise TypeError(f"captions are a {type(captions).__name__}, expected a list")
    captions = [c.strip() for c in captions if c.strip()]
    if not captions:
        return [draw_text(raw, chance)]
    for caption in captions:
        caption.encode("utf-8")  # half of a surrogate pair, which no tokenizer reads
    return chance.sample(captions, min(most, len(captions)))


class _Conversations(Dataset[Sample | None]):
    """Conversations by their place in the run: round after round, each in an order of its own."""

    def __init__(
        self,
        items: Sequence[Conversation],
        layout: RowLayout,
        encoder: AnyEncoder,
        seed: int,
        skipped: SkipCounts,
    ) -> None:
        self.items = items
        self.layout = layout
        self.encoder = encoder
        self.seed = seed
        self.skipped = skipped
        self._order: tuple[int, list[int]] = (-1, [])  # of the last round asked for

    def __getitem__(self, place: int) -> Sample | None:
        number, within = divmod(place, len(self.items))
        if self._order[0] != number:
            generator = torch.Generator().manual_seed(hash((self.seed, number)) % 2**63)
            self._order = (number, torch.randperm(len(self.items), generator=generator).tolist())
        item = self.items[self._order[1][within]]
        info = get_worker_info()
        worker = info.id if info else 0
        try:
            rows = self.layout.conversation(item.messages())
            images = [decode_image(_bytes(path)) for path in item.images]
        except ImageError as error:
            self.skipped.skip("image", f"{item.where}: {error.message}", worker)
            return None
        except SparsightError as error:
            self.skipped.skip("text", f"{item.where}: {error.message}", worker)
            return None
        if not rows:
            why = f"{item.where}: no answer fits in {self.layout.max_tokens} tokens"
            self.skipped.skip("text", why, worker)
            return None
        pixels = tuple(self.encoder.preprocess(image.pixels) for image in images)
        return Sample(item.where, pixels, tuple(rows), hash((self.seed, place)) % 2**32)


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error})") from error


def _try_template(conversations: Sequence[Conversation], layout: RowLayout) -> None:
    """Lays out one conversation of each order of roles, so that a template is refused at once."""
    kinds = {tuple(role for role, _ in c.turns): c for c in reversed(conversations)}
    for conversation in kinds.values():
        try:
            layout.conversation(conversation.messages())
        except SparsightError as error:
            if error.param == "chat_template":
                raise SparsightError(
                    f"{conversation.where}: {error.message}", param=error.param
                ) from error


def _readable(samples: Sequence[Sample | None]) -> list[Sample]:
    return [sample for sample in samples if sample is not None]


def _same(sample: Sample) -> Sample:
    return sample
