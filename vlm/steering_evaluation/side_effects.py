"""What steering does to what it should leave alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage, decode_image
from vlm.answer_batches import MakeRequest, Question
from vlm.edits import Edit
from vlm.mention import Lexicon, pair_is_valid
from vlm.rate import Rate
from vlm.steering_evaluation.photographs import drawn
from vlm.steering_evaluation.sbert import Sbert
from vlm.steering_evaluation.wishes import Bench, Trial, Way, Wish

N_DRIFT_LABELS = 50
N_NO_OP = 16  # photographs, one batch

# Questions that a thing put in or taken away does not decide, with the words they are about.
UNRELATED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Is this photo taken indoors or outdoors?", ()),
    ("Is it day or night?", ()),
    ("What is the main colour of the background?", ()),
    ("Is there a car in the picture? Answer yes or no.", ("car",)),
    ("Is there a boat in the picture? Answer yes or no.", ("boat",)),
    ("Is the photo black and white? Answer yes or no.", ()),
)


@dataclass(frozen=True)
class NoOp:
    """Ablating features none of which is active, in one batch beside the same unsteered."""

    n: int
    same_codes: int  # bit for bit
    same_answers: int  # letter for letter

    @property
    def holds(self) -> bool | None:
        """None where no photograph lent itself to the test."""
        return None if self.n == 0 else self.n == self.same_codes == self.same_answers

    def to_json(self) -> dict[str, object]:
        return {**vars(self), "holds": self.holds}


class Steerable(Protocol):
    """What the no-op test needs of ``vlm.pipeline.Pipeline``."""

    def encode(self, images: Sequence[DecodedImage]) -> Codes: ...
    def steer(self, codes: Codes, edits: Sequence[Edit]) -> Any: ...
    def answer(self, requests: Sequence[Any]) -> Sequence[Any]: ...


def unrelated_unchanged(bench: Bench, wishes: Sequence[Wish], way: Way, stage: str) -> Rate:
    """Share of answers to unrelated questions that steering leaves letter for letter as they were.

    Higher is better. Questions about a word that has to do with the wish are left out.
    """
    plain, steered = [], []
    for wish in wishes:
        sample = bench.photographs.samples[wish.image]
        question = way(wish, sample)
        for words, about in UNRELATED:
            if all(_apart(bench, wish, word) for word in about):
                plain.append(Question(sample, words))
                steered.append(replace(question, prompt=words))
    before = bench.ask("unrelated questions, unsteered", plain)
    after = bench.ask(f"unrelated questions, {stage}", steered)
    return Rate.of([a.text == b.text for a, b in zip(before, after, strict=True)])


def mean_drift(trials: Sequence[Trial], labels: Sequence[str], sbert: Sbert, seed: int) -> float:
    """Mean over answers of the drift over N_DRIFT_LABELS other labels; lower is better.

    Labels that are the source or target, or one of their words, are left out.
    """
    drifts = []
    for number, trial in enumerate(trials):
        named = {trial.wish.source, trial.wish.target}
        others = [label for label in labels if label not in named]
        chosen = [others[i] for i in drawn(range(len(others)), N_DRIFT_LABELS, seed, number)]
        drifts.append(sbert.drift(trial.before, trial.after, chosen))
    return float(np.mean(drifts)) if drifts else 0.0


def no_op(
    bench: Bench,
    pipeline: Steerable,
    ks: Sequence[int] = (4, 2, 1),
    make_request: MakeRequest | None = None,
) -> NoOp:
    """The hard test of PAPER 2.6: an edit that finds nothing to change changes nothing.

    Of each photograph the first concept, in an order by chance, with no feature active among its
    best, with the first of `ks` that allows one. These are ablated by number: of a concept those
    would be found that the photograph has. Asked afresh, never from kept answers, in batches of
    equal make-up.
    """
    if make_request is None:
        from vlm.pipeline import caption_request

        make_request = caption_request
    images: list[DecodedImage] = []
    edits: list[tuple[Edit, ...]] = []
    same_codes = 0
    features_of: dict[Edit, list[int]] = {}  # resolving a concept asks the text tower
    names = shuffled(sorted(bench.lexicons), bench.seed)
    every = [Edit("scale", concept=name, k=k, value=0.0) for k in ks for name in names]
    for i in drawn(range(len(bench.photographs.samples)), N_NO_OP, bench.seed):
        image = decode_image(bench.photographs.samples[i].image)
        codes = pipeline.encode([image])
        active = set(codes.index.tolist())  # in the global code or any cell
        for edit in every:
            if edit not in features_of:
                applied = pipeline.steer(codes, (edit,)).applied
                features_of[edit] = sorted(done.feature for done in applied)
            if active.isdisjoint(features_of[edit]):
                images.append(image)
                edits.append(tuple(Edit("ablate", feature=f) for f in features_of[edit]))
                same_codes += pipeline.steer(codes, edits[-1]).codes.sha256() == codes.sha256()
                break
    if not images:
        return NoOp(0, 0, 0)
    plain = pipeline.answer([make_request(image, edits=()) for image in images])
    after = pipeline.answer(
        [make_request(image, edits=own) for image, own in zip(images, edits, strict=True)]
    )
    same = sum(a.text == b.text for a, b in zip(plain, after, strict=True))
    return NoOp(len(images), same_codes, same)


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """The names in an order by chance."""
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names)).tolist()]


def _apart(bench: Bench, wish: Wish, word: str) -> bool:
    other = Lexicon.for_concept(word)
    return all(
        pair_is_valid(bench.lexicons[c], other) for c in (wish.source, wish.target) if c is not None
    )
