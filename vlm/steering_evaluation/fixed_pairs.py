"""Does steering do what was asked? Replacement, insertion and suppression.

Every image is captioned unsteered once; that decides which images are eligible for a pair (a
replacement needs an image whose unsteered caption says a and not b). Steered answers to those are
judged by the mention test and the corruption rules, beside two baselines on the same images: random
features of like density and asking in words, without steering.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage, decode_image
from vlm.answer_batches import (
    BATCH_SIZE,
    Answering,
    GivenAnswer,
    MakeRequest,
    Progress,
    Question,
    Sample,
    answer_all,
    no_progress,
)
from vlm.apply import AppliedEdit
from vlm.corruption import CorruptionRules
from vlm.edits import Edit
from vlm.mention import pair_lexicons
from vlm.rate import Rate
from vlm.steering_evaluation.control_features import matched_features
from vlm.steering_evaluation.pair_table import SteeredAnswer, SteeringEvaluation, TaskResult
from vlm.steering_evaluation.pairs import STEERING_PAIRS, SteeringPair
from vlm.steering_evaluation.prompts import PROMPTS, a_or_an
from vlm.verdicts import Judge, Nll, Task, likelihoods

N_CONTROL_DRAWS = 5


class Steered(Protocol):
    """What is read of ``Pipeline.steer``'s result."""

    @property
    def applied(self) -> Sequence[AppliedEdit]: ...


class Steering(Answering, Protocol):
    """What a steering evaluation needs of ``vlm.pipeline.Pipeline``."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def atlas(self) -> FeatureAtlas: ...
    def encode(self, images: Sequence[DecodedImage]) -> Codes: ...
    def steer(self, codes: Codes, edits: Sequence[Edit]) -> Steered: ...


@dataclass(frozen=True)
class SteeringSettings:
    """How to steer and how much to judge.

    k: features a concept. dose: of the clamp, p99 units. max_eligible: at most so many eligible
    images a pair and task are judged, drawn by seed; None judges all. seed: of that draw and of the
    random features.
    """

    k: int = 4
    dose: float = 1.0
    tasks: tuple[Task, ...] = ("replacement",)
    n_control_draws: int = N_CONTROL_DRAWS
    prompt_baseline: bool = True
    max_eligible: int | None = None
    seed: int = 0

    def edits(self, pair: SteeringPair, task: Task) -> tuple[Edit, ...]:
        """The edits of a task: ablate the source, clamp the target, or both."""
        ablate = Edit(op="ablate", concept=pair.source, k=self.k)
        clamp = Edit(op="clamp", concept=pair.target, value=self.dose, k=self.k)
        return {
            "replacement": (ablate, clamp),
            "insertion": (clamp,),
            "suppression": (ablate,),
        }[task]


def evaluate_steering(
    pipeline: Steering,
    samples: Sequence[Sample],
    *,
    pairs: Sequence[SteeringPair] = STEERING_PAIRS,
    settings: SteeringSettings | None = None,
    rules: CorruptionRules | None = None,
    nll: Nll | None = None,
    on_progress: Progress = no_progress,
    batch_size: int = BATCH_SIZE,
    make_request: MakeRequest | None = None,
) -> SteeringEvaluation:
    """Steers every eligible image of every pair and judges the answers.

    rules: fitted on a dev split; None fits them on the unsteered answers of this run. nll: mean
    negative log-likelihood of texts, nat a token, without image; None leaves rule C5 out, and the
    report says so. Raises SparsightError if there is no sample or a pair is not valid.
    """
    settings = settings or SteeringSettings()
    if not samples:
        raise SparsightError("no images to steer; expected at least one sample")
    for pair in pairs:
        pair_lexicons(pair.source, pair.target)  # refuses now what would fail after an hour

    def ask(stage: str, questions: Sequence[Question]) -> list[GivenAnswer]:
        return answer_all(
            pipeline,
            questions,
            stage=stage,
            on_progress=on_progress,
            batch_size=batch_size,
            make_request=make_request,
        )

    unsteered = ask("unsteered", [Question(sample) for sample in samples])
    if rules is None:
        words = [word for pair in pairs for word in (pair.source, pair.target)]
        known = [*pipeline.atlas.vocabulary, *words]
        rules = CorruptionRules.fit(unsteered, likelihoods(unsteered, nll), known)
    judge = Judge(rules, nll)
    run = SteeringRun(pipeline, settings, judge, ask, tuple(samples), tuple(unsteered))
    return SteeringEvaluation(
        fingerprint=pipeline.fingerprint,
        k=settings.k,
        dose=settings.dose,
        unsteered_corrupt=Rate.of([bool(fired) for fired in judge.fired(unsteered)]),
        perplexity_judged=nll is not None and rules.nll_limit is not None,
        results=tuple(run.result(pair, task) for pair in pairs for task in settings.tasks),
    )


@dataclass(frozen=True)
class SteeringRun:
    """What all pairs of one evaluation share; samples and unsteered run in parallel."""

    pipeline: Steering
    settings: SteeringSettings
    judge: Judge
    ask: Callable[[str, Sequence[Question]], list[GivenAnswer]]
    samples: tuple[Sample, ...]
    unsteered: tuple[GivenAnswer, ...]

    def result(self, pair: SteeringPair, task: Task) -> TaskResult:
        """One pair and task, with its baselines."""
        source, target = pair_lexicons(pair.source, pair.target)
        before = self.judge.verdicts(self.unsteered, source, target)
        eligible = [
            i
            for i, verdict in enumerate(before)
            if (verdict.says_source or task == "insertion")
            and (not verdict.says_target or task == "suppression")
        ]
        judged = self._drawn(eligible)
        edits = self.settings.edits(pair, task)
        features = self._features(edits, judged)

        def successes(stage: str, edits: tuple[Edit, ...], prompt: str | None = None) -> Rate:
            verdicts = self.judge.verdicts(
                self._answers(f"{pair}, {task}, {stage}", judged, edits, prompt), source, target
            )
            return Rate.of([verdict.succeeds(task) for verdict in verdicts])

        steered = self._answers(f"{pair}, {task}", judged, edits)
        verdicts = self.judge.verdicts(steered, source, target)
        rng = np.random.default_rng(self.settings.seed)
        n_draws = self.settings.n_control_draws if judged else 0
        return TaskResult(
            pair=pair,
            task=task,
            n_images=len(self.samples),
            n_eligible=len(eligible),
            n_features=sum(len(indices) for indices in features),
            answers=tuple(
                SteeredAnswer(self.samples[i].key, self.unsteered[i].text, answer.text, verdict)
                for i, answer, verdict in zip(judged, steered, verdicts, strict=True)
            ),
            unsteered=Rate.of([before[i].succeeds(task) for i in judged]),
            controls=tuple(
                successes(f"random features {draw + 1}", self._control(edits, features, rng))
                for draw in range(n_draws)
            ),
            prompted=(
                successes(
                    "prompt only",
                    (),
                    PROMPTS["mention"][task].format(
                        source=a_or_an(pair.source), target=a_or_an(pair.target)
                    ),
                )
                if self.settings.prompt_baseline
                else None
            ),
        )

    def _drawn(self, eligible: list[int]) -> list[int]:
        """At most max_eligible of the eligible images, in their order."""
        limit = self.settings.max_eligible
        if limit is None or len(eligible) <= limit:
            return eligible
        rng = np.random.default_rng(self.settings.seed)
        return sorted(rng.choice(eligible, size=limit, replace=False).tolist())

    def _answers(
        self, stage: str, images: list[int], edits: tuple[Edit, ...], prompt: str | None = None
    ) -> list[GivenAnswer]:
        return self.ask(stage, [Question(self.samples[i], prompt, edits) for i in images])

    def _features(self, edits: tuple[Edit, ...], images: list[int]) -> list[list[int]]:
        """The features that each edit touches; they depend on the concepts, not on the image."""
        if not images:
            return []
        image = decode_image(self.samples[images[0]].image)
        applied = self.pipeline.steer(self.pipeline.encode([image]), edits).applied
        return [
            sorted({done.feature for done in applied if done.edit == i}) for i in range(len(edits))
        ]

    def _control(
        self, edits: tuple[Edit, ...], features: list[list[int]], rng: np.random.Generator
    ) -> tuple[Edit, ...]:
        """The same edits on random features, matched to the concepts' own, none of them twice."""
        taken = {feature for touched in features for feature in touched}
        control: list[Edit] = []
        for edit, touched in zip(edits, features, strict=True):
            drawn = matched_features(self.pipeline.atlas, touched, taken, rng)
            taken.update(drawn)
            control.extend(Edit(op=edit.op, feature=i, value=edit.value) for i in drawn)
        return tuple(control)
