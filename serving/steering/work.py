"""A sweep between wire and pipeline: no HTTP here."""

from collections.abc import Sequence

from serving.data_uri import read_image
from serving.errors import ModelNotFoundError
from serving.limits import Limits
from serving.steered_answer import check_steered
from serving.steering.wire import SweepAnswer, SweepRequest, SweepResult, SweepUsage
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.dose_list import check_doses
from vlm.edits import Edit
from vlm.pipeline import Answer, Pipeline
from vlm.sweep import MAX_SWEEP, Sweep, SweepPlan, SweepPoint, judge_sweep, plan_sweep
from vlm.sweep_plot import sweep_svg


def read_sweep(body: SweepRequest, model: str, limits: Limits) -> DecodedImage:
    """The photograph of a sound request. Raises SparsightError for all that needs no model."""
    if body.model != model:
        raise ModelNotFoundError(
            f"no model {body.model[:80]!r} here; this server has {model!r}", param="model"
        )
    # One place of the batch, and under vLLM of what may be open, is the unsteered answer's.
    most = min(MAX_SWEEP, limits.max_batch - 1, limits.max_open - 1)
    check_doses(body.doses, zero=True, most=most)
    Edit(op="clamp", concept=body.concept, feature=body.feature, value=1.0, k=body.k)
    for key, value, most in (
        ("max_tokens", body.max_tokens, limits.max_tokens),
        ("prompt", len(body.prompt), limits.max_text),
    ):
        if value > most:
            what = (
                f"{key} is {value}" if key == "max_tokens" else f"prompt has {value:,} characters"
            )
            raise SparsightError(f"{what}, at most {most:,} are allowed", param=key)
    return read_image(body.image, param="image", limits=limits.image)


def planned(pipeline: Pipeline, image: DecodedImage, body: SweepRequest) -> SweepPlan:
    """What a sound request asks of the engine."""
    return plan_sweep(
        pipeline,
        image,
        concept=body.concept,
        feature=body.feature,
        doses=body.doses,
        k=body.k,
        prompt=body.prompt,
        max_tokens=body.max_tokens,
    )


def judged(
    pipeline: Pipeline, plan: SweepPlan, answers: Sequence[Answer], plot: bool = False
) -> SweepResult:
    """The sweep in wire form, once it was answered. Raises UnsteeredAnswerError."""
    for request, answer in zip(plan.requests, answers, strict=True):
        check_steered(request, answer, pipeline.fingerprint)
    found = judge_sweep(pipeline, plan, answers)
    result = sweep_result(found, pipeline.name, pipeline.fingerprint)
    return result.model_copy(update={"plot": sweep_svg(found)}) if plot else result


def sweep_result(found: Sweep, model: str, fingerprint: str) -> SweepResult:
    """A sweep as clients, and ``--json``, get it."""
    answers = [found.unsteered.answer, *(point.answer for point in found.points)]
    prompt = sum(answer.n_prompt_tokens for answer in answers)
    completion = sum(answer.n_completion_tokens for answer in answers)
    return SweepResult(
        model=model,
        system_fingerprint=fingerprint,
        concept=found.concept,
        k=found.k,
        feature=found.feature,
        name=found.name,
        effective=None if found.curve is None else found.curve.effective,
        safe_max=None if found.curve is None else found.curve.safe_max,
        unsteered=_answer(found.unsteered),
        points=[_answer(point) for point in found.points],
        usage=SweepUsage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        ),
    )


def _answer(point: SweepPoint) -> SweepAnswer:
    receipt = point.answer.receipt
    return SweepAnswer(
        dose=point.dose,
        text=point.answer.text,
        finish_reason=point.answer.finish_reason,
        says=point.says,
        likeness=point.likeness,
        receipt=None if receipt is None else receipt.to_json(),
    )
