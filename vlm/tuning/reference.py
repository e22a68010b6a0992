"""The atlas of a run's encoder and the things that its captions may swap, from the first photographs.

Made once, on the main process, before the first step: concepts are swapped with it, and the finished
model steers by it.
"""

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sparse_encoder.any_encoder import AnyEncoder, is_dense
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.atlas_build import build_atlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import ImageError, decode_image
from sparse_encoder.model_folder import find_model
from sparse_encoder.pretrain.pair_stream import (
    BAD_TEXT,
    SkipCounts,
    read_image,
    samples_once,
)
from vlm.concept_swaps import SwapTable
from vlm.model_folder import DEFAULT_MODEL
from vlm.tuning.config import TuneRun
from vlm.tuning.conversations import Conversation
from vlm.tuning.samples import draw_captions

log = logging.getLogger(__name__)
UNSET = "0" * 64  # fingerprint of an atlas whose model is not finished
_BATCH = 8


def make_atlas(
    encoder: AnyEncoder,
    words: Sequence[str],
    run: TuneRun,
    urls: Sequence[str],
    conversations: Sequence[Conversation],
) -> FeatureAtlas:
    """The atlas on the first `run.atlas_images` photographs of the data.

    A dense encoder's features are all dead in it, so that no edit of one can be asked for. Raises
    SparsightError where no photograph can be read.
    """
    codes = _codes(encoder, run, urls, conversations)
    first = next(codes, None)
    if first is None:
        raise SparsightError(
            "no photograph of the data can be read, so features have no scale; check the shards or "
            "the images' folder",
            param="images",
        )

    def batches() -> Iterator[Codes]:
        yield first
        yield from codes

    if is_dense(encoder):
        empty = Codes.from_dense(torch.zeros(1, encoder.config.features))
        return build_atlas(_Silent(encoder.config.features), [empty], words, fingerprint=UNSET)
    return build_atlas(encoder, batches(), words, fingerprint=UNSET)


def mine_swaps(urls: Sequence[str], n_images: int) -> SwapTable:
    """Things that the captions of the first `n_images` samples name often enough."""
    captions: list[str] = []
    chance = random.Random(0)
    for raw in islice(samples_once(urls, SkipCounts()), n_images):
        try:
            captions += draw_captions(raw, chance, 100)
        except BAD_TEXT:
            continue  # told of when it is trained on
    counts = Counter(captions)
    return SwapTable.mine(counts.elements(), {}, at_least=max(2, len(captions) // 1500))


def naming_words(run: TuneRun) -> list[str]:
    """Words that may name features: those of the run's file, else those of the model in the box."""
    if not run.words:
        atlas = FeatureAtlas.load(find_model(DEFAULT_MODEL) / "features")
        return sorted(atlas.vocabulary)
    try:
        words = Path(run.words).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SparsightError(
            f"cannot read the word list {run.words}: {error}", param="words"
        ) from error
    words = [w.strip() for w in words if w.strip()]
    if not words:
        raise SparsightError(f"the word list {run.words} is empty", param="words")
    return list(dict.fromkeys(words))


def some_codes(
    encoder: AnyEncoder, urls: Sequence[str], conversations: Sequence[Conversation], n: int
) -> Codes:
    """Codes of the first n readable photographs, cells and all, on the CPU."""
    found = list(islice(_pixels(encoder, urls, conversations), n))
    return Codes.cat([encoder.codes_of_pixels(p[None]).to("cpu") for p in found])


class _Silent:
    """A text encoder that names no feature."""

    def __init__(self, features: int) -> None:
        self.features = features

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.zeros(len(texts), self.features)


def _codes(
    encoder: AnyEncoder, run: TuneRun, urls: Sequence[str], conversations: Sequence[Conversation]
) -> Iterator[Codes]:
    pixels = islice(_pixels(encoder, urls, conversations), run.atlas_images)
    bar = tqdm(pixels, total=run.atlas_images, desc="atlas", unit="image", delay=1, leave=False)
    images = iter(bar)
    while block := list(islice(images, _BATCH)):
        yield encoder.codes_of_pixels(torch.stack(block)).to("cpu")


def _pixels(
    encoder: AnyEncoder, urls: Sequence[str], conversations: Sequence[Conversation]
) -> Iterator[Any]:
    """Preprocessed photographs: of the shards where there are any, else of the conversations."""
    if urls:
        for raw in samples_once(urls, skipped := SkipCounts()):
            image = read_image(raw, skipped.skip)
            if image is not None:
                yield encoder.preprocess(image)
        return
    seen = dict.fromkeys(path for c in conversations for path in c.images)
    for path in seen:
        try:
            yield encoder.preprocess(decode_image(Path(path).read_bytes()).pixels)
        except (OSError, ImageError) as error:
            log.warning("an image is left out: %s: %s", path, error)
