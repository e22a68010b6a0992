"""All of a model's steering measured: what `sparsight eval steering MODEL --out DIR` does.

First every photograph is answered unsteered, which decides what is eligible. Then all parts are run
against a counter, which costs nothing and tells how long the rest will take, and then in earnest. What
has been answered before is read from the folder.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sparse_encoder.baselines.sae import SaeConfig
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from vlm.answer_batches import Sample
from vlm.corruption import CorruptionRules
from vlm.fluency import Fluency
from vlm.pipeline import Pipeline
from vlm.rate import Rate
from vlm.steering_evaluation.answer_book import AnswerBook, Counting, Standing
from vlm.steering_evaluation.ask_all import Asked, ask_all
from vlm.steering_evaluation.baselines import (
    RANDOM,
    Rivals,
    best_prompt,
    named,
)
from vlm.steering_evaluation.candidates import MIN_ELIGIBLE, Candidates, find_candidates
from vlm.steering_evaluation.concept_means import by_concept, concept_mean, retained_mean
from vlm.steering_evaluation.mean_difference import MeanDifference
from vlm.steering_evaluation.moved_vectors import TrunkCells
from vlm.steering_evaluation.photographs import DEV, Photographs, drawn
from vlm.steering_evaluation.random_features import RandomFeatures
from vlm.steering_evaluation.report import Judging, SideEffects, SteeringReport
from vlm.steering_evaluation.sae_feature import SaeFeatures, trained_sae
from vlm.steering_evaluation.sbert import NAME, Sbert, SbertJudge, agreement, soft_scores
from vlm.steering_evaluation.side_effects import mean_drift, no_op
from vlm.steering_evaluation.sizes import Sizes
from vlm.steering_evaluation.task_wishes import TaskWishes, task_wishes
from vlm.steering_evaluation.three_tasks import (
    HEADLINE,
    FamilyResult,
)
from vlm.steering_evaluation.to_check import answers_to_check
from vlm.steering_evaluation.training_photographs import TrainingPhotographs
from vlm.steering_evaluation.wishes import TASKS, Bench, Trial
from vlm.template import SUBJECT_PROMPT
from vlm.verdicts import Judge, Task, likelihoods

ANSWERS_FILE, SAE_FOLDER = "answers.jsonl", "autoencoder"
KEPT_IMAGES = 400  # codes of photographs, 0.6 MB each; most are asked about many times
N_JUDGE_CONCEPTS = 60  # on which the threshold of the second judge is fitted


def measure_steering(
    pipeline: Pipeline,
    sets: Mapping[str, Sequence[Sample]],
    data: Path,
    out: Path,
    sizes: Sizes,
    sbert: Sbert,
    on_progress: Callable[[Standing], None] = lambda _: None,
) -> SteeringReport:
    """Asks, judges and compares; answers are kept in `out` as they come.

    sets: photographs by set, labelled or not; none of them trained on. data: folder with the training
    shards, for the dense baselines. Raises SparsightError where there is nothing to steer.
    """
    started = time.monotonic()
    pipeline.kept_codes.most = max(pipeline.kept_codes.most, KEPT_IMAGES)
    chosen = {name: _drawn(samples, sizes, name) for name, samples in sets.items()}
    samples = [sample for found in chosen.values() for sample in found]
    book = AnswerBook(pipeline, pipeline.fingerprint, out / ANSWERS_FILE, on_progress=on_progress)
    photographs = Photographs.ask(book, samples, sizes.seed)
    labels = sorted({sample.label for sample in samples if sample.label})
    candidates = find_candidates(
        labels, photographs.texts, pipeline.atlas, pipeline.encoder.encode_texts,
        min(MIN_ELIGIBLE, sizes.insertion.min_eligible),
    )  # fmt: skip
    if not candidates.lexicons:
        raise SparsightError(
            f"none of {len(labels)} labels is a concept that this model can edit; give photographs "
            "with other labels",
            param="data",
        )
    known = [*pipeline.atlas.vocabulary, *labels]
    bench = _bench(book, photographs, candidates, pipeline, known, None, sizes.seed)
    labelled = [sample for sample in samples if sample.label]
    of_subject = Photographs.ask(
        book,
        [labelled[i] for i in drawn(range(len(labelled)), sizes.images, sizes.seed)],
        sizes.seed,
        SUBJECT_PROMPT,
    )
    subjects = _bench(book, of_subject, candidates, pipeline, known, SUBJECT_PROMPT, sizes.seed)
    wishes = {task: task_wishes(bench, task, getattr(sizes, task)) for task in TASKS}
    rivals, limits = _rivals(pipeline, data, out, candidates, sizes)
    counting = Counting(pipeline.fingerprint)
    ask_all(
        _silent(bench, counting), _silent(subjects, counting), pipeline.atlas, wishes, rivals, sbert
    )
    book.expected = len(counting.asked | book.used)
    asked = ask_all(bench, subjects, pipeline.atlas, wishes, rivals, sbert)
    judge = _second_judge(bench, sbert)
    headline = {f.task: f for f in asked.families if f.family == HEADLINE}
    return SteeringReport(
        fingerprint=pipeline.fingerprint,
        sizes=sizes.to_json(),
        photographs={name: len(found) for name, found in chosen.items()},
        refused=candidates.refused,
        eligible={task: found.eligible for task, found in wishes.items()},
        unsteered_corrupt=Rate.of([bool(f) for f in bench.judge.fired(photographs.unsteered)]),
        length_limit=bench.judge.rules.length_limit,
        nll_limit=bench.judge.rules.nll_limit,
        sbert=NAME,
        sbert_threshold=judge.threshold,
        grid=asked.grid,
        families=asked.families,
        baselines=asked.baselines,
        judging=[_judging(task, f.own, judge) for task, f in headline.items()],
        side_effects=[
            _side_effects(task, f, asked, labels, sbert, sizes.seed) for task, f in headline.items()
        ],
        bystanders=asked.bystanders,
        no_op=no_op(bench, pipeline),
        composition=asked.composition,
        regions=asked.regions,
        to_check=[
            row
            for family in headline.values()
            for row in answers_to_check(family.own, judge, sizes.seed)
        ],
        limits=[*limits, *_limits(wishes, samples)],
        made_with={
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "answers": len(book.used),
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def _drawn(samples: Sequence[Sample], sizes: Sizes, name: str) -> list[Sample]:
    if sizes.per_set is None:
        return list(samples)
    return [samples[i] for i in drawn(range(len(samples)), sizes.per_set, sizes.seed, len(name))]


def _bench(
    book: AnswerBook,
    photographs: Photographs,
    candidates: Candidates,
    pipeline: Pipeline,
    known: Sequence[str],
    prompt: str | None,
    seed: int,
) -> Bench:
    """With corruption rules fitted on the unsteered answers of the dev half to this prompt."""
    nll = Fluency(pipeline) if prompt is None else Fluency(pipeline, prompt)
    dev = [photographs.unsteered[i] for i in sorted(photographs.of_half(DEV))]
    rules = CorruptionRules.fit(dev, likelihoods(dev, nll), known)
    return Bench(book, photographs, candidates.lexicons, Judge(rules, nll), seed)


def _silent(bench: Bench, counting: Counting) -> Bench:
    """The same bench, asking the counter, without the cost of judging fluency."""
    return replace(bench, ask=counting, judge=Judge(bench.judge.rules))


def _rivals(
    pipeline: Pipeline, data: Path, out: Path, candidates: Candidates, sizes: Sizes
) -> tuple[Rivals, list[str]]:
    encoder = pipeline.encoder
    random = RandomFeatures(pipeline.atlas, encoder.encode_texts, sizes.seed)
    if not isinstance(encoder, SparseEncoder):
        missing = "The dense baselines move vectors of a frozen trunk, which this encoder lacks."
        return Rivals(random, None, None, sizes), [missing]
    training = TrainingPhotographs.load(data, encoder, candidates.lexicons)
    if training is None:
        missing = "No training shards in the data: the two dense baselines were not measured."
        return Rivals(random, None, None, sizes), [missing]
    cells = TrunkCells(encoder)
    config = SaeConfig(
        "topk", sizes.sae_features, min(64, sizes.sae_features), steps=sizes.sae_steps
    )
    name = f"{SAE_FOLDER}-{config.features}-{config.steps}"
    sae = SaeFeatures(trained_sae(training, config, out / name), cells, training)
    return Rivals(random, MeanDifference(cells, training), sae, sizes), []


def _second_judge(bench: Bench, sbert: Sbert) -> SbertJudge:
    names = sorted(bench.lexicons)
    fitted = [names[i] for i in drawn(range(len(names)), N_JUDGE_CONCEPTS, bench.seed)]
    dev = [bench.photographs.texts[i] for i in sorted(bench.photographs.of_half(DEV))]
    return SbertJudge.fit(sbert, dev, {name: bench.lexicons[name] for name in fitted})


def _judging(task: Task, trials: Sequence[Trial], judge: SbertJudge) -> Judging:
    own = {name: [judge.meets(t) and not t.fired for t in found]
           for name, found in by_concept(trials).items()}  # fmt: skip
    return Judging(
        task,
        soft_scores(trials, judge.sbert),
        concept_mean([sum(met) / len(met) for met in own.values()]),
        agreement(
            [trial.verdict.meets(task) for trial in trials], [judge.meets(t) for t in trials]
        ),
    )


def _side_effects(
    task: Task,
    family: FamilyResult,
    asked: Asked,
    labels: Sequence[str],
    sbert: Sbert,
    seed: int,
) -> SideEffects:
    random = named(asked.baselines, task, RANDOM)
    prompt = best_prompt(asked.baselines, task)
    controls = random.trials if random else ()
    return SideEffects(
        task=task,
        unrelated=asked.unrelated[task][0],
        unrelated_random=asked.unrelated[task][1],
        retained=retained_mean(family.own),
        retained_random=retained_mean(controls),
        drift=mean_drift(family.own, labels, sbert, seed),
        drift_random=mean_drift(controls, labels, sbert, seed),
        drift_prompt=mean_drift(prompt.trials, labels, sbert, seed) if prompt else None,
    )


def _limits(wishes: Mapping[Task, TaskWishes], samples: Sequence[Any]) -> list[str]:
    limits = [
        "Words are judged by a mention test and SBERT, not by people; the answers written out are "
        "there to be checked.",
        f"The sentence encoder that judges, {NAME}, is also the model's text trunk where the model "
        "is sparsight-mini.",
    ]
    for task, found in wishes.items():
        n = len(found.concepts)
        if n < 20:
            limits.append(f"The mean of {task} is over {n} concepts only.")
    return limits
