"""Image-text pairs from webdataset shards, without end, in an order that a seed fixes.

Shards are drawn with replacement, as OpenCLIP's resampled training does, so ranks and workers need
no share of their own. The order depends on (seed, start, rank, worker) alone: a run that starts a
new stream at each of its checkpoints reads the same pairs whether or not it was stopped there.
"""

import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
import webdataset as wds
from PIL import Image
from torch.utils.data import IterableDataset, get_worker_info

from sparse_encoder.errors import SparsightError
from sparse_encoder.image import ImageError, decode_image
from sparse_encoder.templates import LABEL_TEMPLATES

log = logging.getLogger(__name__)
T = TypeVar("T")
Skip = Callable[[str, object], object]  # called with the kind of what is left out, and why
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
SKIPPED = ("shard", "image", "text")  # what can be broken
MAX_WORKERS = 256
# What `draw_text` and `read_label` raise; JSON that is nested too deeply ends in a RecursionError.
BAD_TEXT = (KeyError, ValueError, AttributeError, TypeError, RecursionError)


@dataclass(frozen=True)
class Pair:
    """One photograph and one text about it."""

    key: str
    image: Image.Image  # RGB, upright
    text: str
    seed: int = 0  # of whatever is random about its preparation


class SkipCounts:
    """How much was left out, by kind, counted by all workers of this rank.

    Each worker writes a row of its own in shared memory, so none waits for another.
    """

    def __init__(self) -> None:
        self._rows = torch.zeros(MAX_WORKERS, len(SKIPPED), dtype=torch.int64).share_memory_()

    def add(self, kind: str, worker: int) -> None:
        self._rows[worker, SKIPPED.index(kind)] += 1

    def skip(self, kind: str, why: object, worker: int = 0) -> bool:
        """Counts and logs something that is left out; true, as webdataset's handlers are."""
        self.add(kind, worker)
        log.warning("a %s is left out: %s", kind, why)
        return True

    def totals(self) -> dict[str, int]:
        return dict(zip(SKIPPED, self._rows.sum(0).tolist(), strict=True))


class PairStream(IterableDataset[T], Generic[T]):
    """Endless pairs, each made into what training wants by `prepare`.

    A shard holds ``KEY.jpg`` (or png, webp) beside ``KEY.json`` with ``captions`` (one is drawn)
    or ``label`` (put into a template), or beside ``KEY.txt`` with one caption. What is broken is
    left out, logged and counted in `skipped`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        prepare: Callable[[Any], T],
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        buffer: int = 1000,
        skipped: SkipCounts | None = None,
        read: Callable[[dict[str, Any], random.Random, Skip], Any] | None = None,
    ) -> None:
        """urls: paths or addresses. start: step at which this stream begins. buffer: samples that
        the shuffle holds (undecoded). read: makes of a raw sample what `prepare` takes, or None and
        a call of its last argument; by default `read_pair`."""
        super().__init__()
        if not urls:
            raise SparsightError("no shards were given; expected paths or addresses of tar files")
        self.urls = list(urls)
        self.prepare = prepare
        self.read = read or read_pair
        self.order = (seed, start, rank)
        self.buffer = buffer
        self.skipped = skipped or SkipCounts()

    def __iter__(self) -> Iterator[T]:
        info = get_worker_info()
        worker = info.id if info else 0
        # A string seeds by its hash of all bits, so near seeds give unrelated orders.
        chance = random.Random(repr((*self.order, worker)))
        delivered = [0]

        def skip(kind: str, why: object) -> bool:
            return self.skipped.skip(kind, why, worker)

        raw = wds.DataPipeline(
            lambda: self._shards(chance, delivered),
            wds.tarfile_to_samples(handler=lambda error: skip("shard", error)),
            wds.shuffle(self.buffer, initial=self.buffer, rng=chance),
        )
        for sample in raw:
            pair = self.read(sample, chance, skip)
            if pair is not None:
                delivered[0] += 1
                yield self.prepare(pair)

    def _shards(self, chance: random.Random, delivered: list[int]) -> Iterator[dict[str, str]]:
        """Shards for ever; stops with an error when many in a row gave nothing."""
        patience = 3 * len(self.urls) + 10 + self.buffer  # a shard may hold a single sample
        tried, before = 0, 0
        while True:
            if delivered[0] != before:
                tried, before = 0, delivered[0]
            tried += 1
            if tried > patience:
                raise SparsightError(
                    f"no readable pair in {tried - 1} shards in a row, {self.urls[0]} among them "
                    f"(left out: {self.skipped.totals()}); expected tar files with KEY.jpg beside "
                    "KEY.json or KEY.txt",
                    param="shards",
                )
            yield {"url": self.urls[chance.randrange(len(self.urls))]}


def samples_once(urls: Sequence[str], skipped: SkipCounts) -> Iterator[dict[str, Any]]:
    """Every sample of the shards as it is stored, in order."""
    return iter(
        wds.DataPipeline(
            lambda: ({"url": url} for url in urls),
            wds.tarfile_to_samples(handler=lambda error: skipped.skip("shard", error)),
        )
    )


def read_pair(sample: dict[str, Any], chance: random.Random, skip: Skip) -> Pair | None:
    """A raw sample's pair; None, and a call of `skip`, where picture or text cannot be read."""
    key = str(sample.get("__key__"))
    try:
        text = draw_text(sample, chance)
    except BAD_TEXT as error:
        skip("text", f"{key}: {error!r}")
        return None
    image = read_image(sample, skip)
    return None if image is None else Pair(key, image, text, chance.getrandbits(32))


def read_image(sample: dict[str, Any], skip: Skip) -> Image.Image | None:
    """A raw sample's picture, upright RGB; None, and a call of `skip`, where it cannot be read."""
    data = next((sample[s] for s in IMAGE_SUFFIXES if s in sample), None)
    try:
        if data is None:
            raise ImageError("it has no picture")
        return decode_image(data).pixels
    except ImageError as error:
        skip("image", f"{sample.get('__key__')}: {error}")
        return None


def draw_text(sample: dict[str, Any], chance: random.Random) -> str:
    """One text of a raw sample; raises one of BAD_TEXT where it has none."""
    if "json" not in sample:
        return _text(sample["txt"].decode("utf-8"))
    meta = json.loads(sample["json"].decode("utf-8"))
    captions = meta.get("captions", [])
    if not isinstance(captions, list):  # of a string, letters would be drawn
        raise TypeError(f"captions are a {type(captions).__name__}, expected a list")
    captions = [c for c in captions if c.strip()]
    if captions:
        return _text(chance.choice(captions))
    return chance.choice(LABEL_TEMPLATES).format(_text(meta["label"]))


def read_label(sample: dict[str, Any]) -> str:
    """The ``label`` of a raw sample; raises as `draw_text` does."""
    return _text(json.loads(sample["json"].decode("utf-8"))["label"])


def _text(words: Any) -> str:
    if not isinstance(words, str):
        raise TypeError(f"the text is a {type(words).__name__}: {words!r}")
    if not words.strip():
        raise ValueError("the text is empty")
    words.encode("utf-8")  # JSON may hold half of a surrogate pair, which no tokenizer reads
    return words.strip()
