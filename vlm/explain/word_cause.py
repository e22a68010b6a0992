"""Which features made the caption say a word: attributed, then tried out beside random ones."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage
from vlm.explain.ablation_trial import (
    N_CONTROLS,
    Trial,
    losses,
    magnitudes,
    matched_active,
    try_out,
)
from vlm.explain.attribution import Attribution, attribute
from vlm.explain.captioner import BLOCK, Captioner
from vlm.explain.strongest import global_code, in_p99
from vlm.explain.word_place import WordPlace, check_word, likeliest_place, said_place
from vlm.pipeline import Pipeline

N_CAUSES = 5  # features that are tried out, each with a caption of its own


@dataclass(frozen=True)
class Cause:
    """A feature with a large attribution, and what taking it out did."""

    feature: int
    name: str  # "" where the feature has none
    activation: float  # in the global code, raw units; 0 where only cells have it
    p99: float | None  # the same in multiples of the feature's p99; None where it is dead
    attribution: float  # gradient x activation, nats; the guess
    attribution_global: float  # the part of it that goes through the global code
    ablated: Trial  # the feature taken out; the check
    control_losses: tuple[float, ...]  # the same loss for each matched random feature, nats
    confirmed: bool  # whether its loss is above 0 and above each of the controls'


@dataclass(frozen=True)
class WordCause:
    """Why the caption says, or does not say, a word."""

    word: str  # as asked
    said: str | None  # as the caption has it; None where it does not say it
    caption: str
    before: str  # the caption up to the place of the word
    log_prob: float  # of the word at its place, nats, <= 0
    causes: tuple[Cause, ...]  # largest attribution first, all of them above 0
    together: Trial | None  # all of them taken out at once; None where there are none
    together_control: Trial | None  # as many random features of like magnitude at once


def explain_word(
    pipeline: Pipeline, image: DecodedImage, word: str, *, seed: int = 0
) -> Generator[str, None, WordCause]:
    """Why the caption says `word`. A generator, so that others get their turn between its steps.

    Yields the name of each step once that is done and returns the result. `seed` draws the random
    features. Raises SparsightError for a word that has no place in the caption.
    """
    check_word(word, pipeline.tokenizer)
    codes = pipeline.encode([image]).clone()  # gradients are taken of them
    captioner = Captioner(pipeline, image)
    (caption,) = captioner.captions(codes)
    yield "caption"
    place = _place(pipeline, captioner, codes, word, caption)
    found = attribute(codes, lambda open_: captioner.log_probs(open_, place.before, place.tokens))
    yield "attribution"
    total = found.total
    order = total.argsort(descending=True, stable=True)[:N_CAUSES]
    features = [int(j) for j in order if total[j] > 0]
    controls, group = _draw_controls(codes, features, seed)
    alone = yield from _try_alone(codes, captioner, place, word, features)
    loss_of = yield from _control_losses(codes, captioner, place, controls)
    both = try_out(codes, captioner, place, word, [features, group] if features else [])
    code = global_code(codes)
    return WordCause(
        word=word,
        said=place.said,
        caption=captioner.text(caption),
        before=captioner.text(place.before),
        log_prob=float(_log_prob(captioner, codes, place)),
        causes=tuple(
            _cause(j, float(code[j]), found, trial, [loss_of[c] for c in own], pipeline.atlas)
            for j, trial, own in zip(features, alone, controls, strict=True)
        ),
        together=both[0] if both else None,
        together_control=both[1] if both else None,
    )


@torch.inference_mode()
def _place(
    pipeline: Pipeline, captioner: Captioner, codes: Codes, word: str, caption: list[int]
) -> WordPlace:
    place = said_place(word, caption, pipeline.tokenizer)
    if place is not None:
        return place
    following = captioner.next_log_probs(codes, caption)
    return likeliest_place(word, caption, following, pipeline.tokenizer, pipeline.atlas)


@torch.inference_mode()
def _log_prob(captioner: Captioner, codes: Codes, place: WordPlace) -> Tensor:
    return captioner.log_probs(codes, place.before, place.tokens)


def _draw_controls(
    codes: Codes, features: Sequence[int], seed: int
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Random features for each given one, and a set of as many to be taken out together."""
    rng = np.random.default_rng(seed)
    size = magnitudes(codes)
    own = [matched_active(size, j, features, N_CONTROLS, rng) for j in features]
    group: list[int] = []
    for j in features:
        group += matched_active(size, j, [*features, *group], 1, rng)
    return own, group


def _try_alone(
    codes: Codes, captioner: Captioner, place: WordPlace, word: str, features: Sequence[int]
) -> Generator[str, None, list[Trial]]:
    trials = try_out(codes, captioner, place, word, [[j] for j in features])
    yield "ablations"
    return trials


def _control_losses(
    codes: Codes, captioner: Captioner, place: WordPlace, controls: Sequence[Sequence[int]]
) -> Generator[str, None, dict[int, float]]:
    """The loss of each random feature; one that stands beside several is tried out once."""
    drawn = sorted({j for own in controls for j in own})
    out: dict[int, float] = {}
    for start in range(0, len(drawn), BLOCK - 1):  # the unchanged code makes a block full
        block = drawn[start : start + BLOCK - 1]
        found = losses(codes, captioner, place, [[j] for j in block])
        out |= dict(zip(block, found, strict=True))
        yield "random features"
    return out


def _cause(
    feature: int,
    activation: float,
    found: Attribution,
    trial: Trial,
    control_losses: list[float],
    atlas: FeatureAtlas,
) -> Cause:
    return Cause(
        feature=feature,
        name=atlas.names[feature],
        activation=activation,
        p99=in_p99(activation, atlas, feature),
        attribution=float(found.total[feature]),
        attribution_global=float(found.from_global[feature]),
        ablated=trial,
        control_losses=tuple(control_losses),
        confirmed=trial.loss > max(0.0, *control_losses) if control_losses else trial.loss > 0,
    )
