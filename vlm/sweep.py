"""One photograph, one concept, several doses: what each of them does, answered as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch.nn import functional

from sparse_encoder.doses import DoseCurve
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.concepts import resolve
from vlm.default_dose import curve_of
from vlm.dose_list import check_doses
from vlm.edits import DEFAULT_K, Edit, refuse_missing_feature
from vlm.known_concepts import normalise
from vlm.mention import Lexicon, mentions, tokens_of
from vlm.pipeline import DEFAULT_PROMPT, Answer, Pipeline, Request, caption_request
from vlm.sampling import Sampling

SWEEP_DOSES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
MAX_SWEEP = 15  # doses; with the unsteered answer a batch of 16


@dataclass(frozen=True)
class SweepPoint:
    """One answer. Both measures are None where a feature has no name."""

    dose: float | None  # p99; None of the unsteered answer
    answer: Answer
    says: bool | None  # whether it names the concept, by the mention test
    likeness: float | None  # cosine of answer and name in the text trunk, [-1, 1]


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep asks, the unsteered request first; whoever answers, `judge_sweep` reads it."""

    requests: tuple[Request, ...]
    doses: tuple[float, ...]  # of all requests but the first
    concept: str | None
    feature: int | None
    k: int | None
    name: str


@dataclass(frozen=True)
class Sweep:
    """All answers; `curve` is what calibration knows of the concept or feature, if anything."""

    concept: str | None
    k: int | None
    feature: int | None
    name: str  # of the concept or feature
    unsteered: SweepPoint
    points: tuple[SweepPoint, ...]  # in order of dose
    curve: DoseCurve | None

    @property
    def label(self) -> str:
        """``cat`` or ``#812 (tabby)``."""
        return self.concept if self.concept is not None else f"#{self.feature} ({self.name})"


def sweep(
    pipeline: Pipeline,
    image: DecodedImage,
    *,
    concept: str | None = None,
    feature: int | None = None,
    doses: Sequence[float] = SWEEP_DOSES,
    k: int | None = None,
    prompt: str = DEFAULT_PROMPT,
    max_tokens: int = 64,
) -> Sweep:
    """Clamps a concept, or a feature, at each dose (p99; 0 takes it out), greedily answered.

    The photograph is encoded once, and all answers are one batch. Raises SparsightError, with `param`
    the name of the argument, for a target or a dose that cannot be.
    """
    plan = plan_sweep(
        pipeline,
        image,
        concept=concept,
        feature=feature,
        doses=doses,
        k=k,
        prompt=prompt,
        max_tokens=max_tokens,
    )
    return judge_sweep(pipeline, plan, pipeline.answer(plan.requests))


def plan_sweep(
    pipeline: Pipeline,
    image: DecodedImage,
    *,
    concept: str | None = None,
    feature: int | None = None,
    doses: Sequence[float] = SWEEP_DOSES,
    k: int | None = None,
    prompt: str = DEFAULT_PROMPT,
    max_tokens: int = 64,
) -> SweepPlan:
    """The requests of `sweep`, for an engine of another process. Raises SparsightError likewise."""
    check_doses(doses, zero=True, most=MAX_SWEEP)
    edits = [
        Edit(op="clamp", concept=concept, feature=feature, value=float(dose), k=k) for dose in doses
    ]
    name = _name(pipeline, edits[-1])
    plain = caption_request(image, prompt=prompt, sampling=Sampling(max_tokens=max_tokens))
    steered = [replace(plain, edits=(edit,)) for edit in edits]
    return SweepPlan((plain, *steered), tuple(map(float, doses)), concept, feature, k, name)


def judge_sweep(pipeline: Pipeline, plan: SweepPlan, answers: Sequence[Answer]) -> Sweep:
    """The sweep whose requests have these answers, in order."""
    points = _judged(pipeline, plan.name, [None, *plan.doses], answers)
    known = normalise(plan.concept) if plan.concept is not None else None
    return Sweep(
        concept=known,
        k=None if known is None else plan.k or DEFAULT_K,
        feature=plan.feature,
        name=plan.name,
        unsteered=points[0],
        points=tuple(points[1:]),
        curve=curve_of(plan.requests[-1].edits[0], pipeline.atlas.doses),
    )


def _name(pipeline: Pipeline, edit: Edit) -> str:
    """The word for the edit's target. Raises SparsightError where the target cannot be edited."""
    try:
        refuse_missing_feature(edit, pipeline.n_features, "sweep[0]")
        resolve([edit], pipeline.atlas, pipeline.encoder.encode_texts, param="sweep")
    except SparsightError as error:
        message = error.message.replace("sweep[0].", "")
        key = (error.param or "").rpartition(".")[2]
        raise SparsightError(message, param=key, code=error.code) from None
    return normalise(edit.concept) if edit.concept else pipeline.atlas.names[edit.feature or 0]


def _judged(
    pipeline: Pipeline, name: str, doses: Sequence[float | None], answers: Sequence[Answer]
) -> list[SweepPoint]:
    if not tokens_of(name):
        return [SweepPoint(d, a, None, None) for d, a in zip(doses, answers, strict=True)]
    lexicon = Lexicon.for_concept(name)
    likeness: list[float | None] = [None] * len(answers)
    if isinstance(pipeline.encoder, SparseEncoder):  # whose text trunk compares sentences
        vectors = pipeline.encoder.text_trunk([name, *(answer.text for answer in answers)])
        likeness = functional.cosine_similarity(vectors[:1], vectors[1:]).tolist()
    return [
        SweepPoint(dose, answer, mentions(lexicon, answer.text), like)
        for dose, answer, like in zip(doses, answers, likeness, strict=True)
    ]
