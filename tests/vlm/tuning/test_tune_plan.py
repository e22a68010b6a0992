"""The dry run's figures against a step that was really made."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparse_encoder.any_encoder import load_encoder
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.cluster_plan import Cluster, flop_counter
from vlm.language_model import load_language_model
from vlm.packing import IGNORED, SOFT, Batch, Laid, stack
from vlm.projector import Projector
from vlm.tuning.captioner import TunedCaptioner
from vlm.tuning.config import tune_run
from vlm.tuning.plan import RowShape, TunePlan, tune_plan
from vlm.tuning.shapes import projector_shape

ONE = Cluster(gpus=1, tflops=1.0, utilisation=1.0)
ROW = RowShape(text_tokens=40, answer_tokens=16)
TINY = tune_run("tiny-8x", {})


def captioner(encoder: Path, checkpointing: bool = False) -> tuple[TunedCaptioner, Codes]:
    """As a run makes it, and the codes of four photographs."""
    coder = load_encoder(encoder)
    llm, _ = load_language_model("tiny")
    made = TunedCaptioner(llm, Projector(projector_shape(coder, llm, TINY)), TINY.lora).train()
    if checkpointing:
        made.llm.gradient_checkpointing_enable({"use_reentrant": False})
    return made, coder.codes_of_pixels(torch.rand(4, 3, 32, 32))


def batch() -> Batch:
    n_soft = 5
    tokens = [SOFT] * n_soft + [7] * 40
    targets = [IGNORED] * (n_soft + 23) + [7] * 16 + [IGNORED]
    return stack([Laid(tokens, list(range(45)), targets, [0] * 45)] * 4)


@cache
def plan_of(encoder: Path, checkpointing: bool = False) -> TunePlan:
    run = replace(TINY, checkpointing=checkpointing, micro_batch=4)
    return tune_plan(run, ONE, ROW, encoder=encoder)


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_operations_are_those_counted_in_a_real_step(
    encoder: Path, stage: int, checkpointing: bool
) -> None:
    made, codes = captioner(encoder, checkpointing)
    made.set_stage(stage)
    with flop_counter() as image:
        load_encoder(encoder).codes_of_pixels(torch.rand(4, 3, 32, 32))
    with flop_counter() as step:
        made(codes, batch()).backward()
    with flop_counter() as projector:
        made.projector(codes).sum().backward()
    # The first layer's own kernel is not counted here, and by formula in the plan.
    formula = 2 * 2 * ROW.density * 128 * 17 * 32 + 3 * 2 * 5 * 32**2
    behind = step.get_total_flops() - projector.get_total_flops()
    real = (behind + image.get_total_flops()) / 4 + formula
    planned = plan_of(encoder, checkpointing).flops_per_step[stage] / TINY.stage1.batch
    assert planned == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_activations_are_those_kept_in_a_real_step(encoder: Path, checkpointing: bool) -> None:
    made, codes = captioner(encoder, checkpointing)
    parameters = {p.untyped_storage().data_ptr() for p in made.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    made.set_stage(1)
    held = batch()
    soft = made.projector(codes).detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = made.loss_of(soft, held)
    measured = float(sum(kept.values())) + 4 * 2 * 4 * 5 * 32  # the projector's second layer
    assert loss.isfinite()
    planned = plan_of(encoder, checkpointing).bytes["activations of a micro-batch"]
    if checkpointing:
        whole = plan_of(encoder).bytes["activations of a micro-batch"]
        assert planned < whole
        # Beside what lies between the blocks, their inputs and one block's own.
        assert planned > measured
        measured += 2 * 4 * 45 * 32 * 4 + (whole - measured) / 2
    assert planned == pytest.approx(measured, rel=0.1)


def test_parameters_are_those_of_the_real_model(encoder: Path) -> None:
    made, _ = captioner(encoder)
    counts = plan_of(encoder).parameters
    assert counts["projector"] == sum(p.numel() for p in made.projector.parameters())
    assert counts["LoRA"] == sum(p.numel() for p in made.lora)
    assert counts["trained"] == sum(p.numel() for p in made.trained(1))
    total = sum(p.numel() for p in made.parameters())
    total += sum(p.numel() for p in load_encoder(encoder).parameters())
    assert counts["all"] == total
    assert plan_of(encoder).bytes["weights, gradients, moments"] == 16 * counts["trained"]


@pytest.mark.slow
def test_the_papers_model_is_planned_without_its_weights() -> None:
    plan = tune_plan(tune_run("llama-8b-72x", {}), Cluster(gpus=64))
    assert plan.parameters["language model"] == pytest.approx(8.03e9, rel=0.001)
    assert plan.parameters["projector"] > 55_296 * 4_096
    assert plan.steps == (2_000_000 // 256, 10_000_000 // 128)
    assert plan.bytes["language model"] == 2 * plan.parameters["language model"]
    assert "8,030" in plan.table()


def test_hours_fall_with_the_speed_of_the_gpus_and_a_batch_must_be_shared(encoder: Path) -> None:
    two = tune_plan(replace(TINY, micro_batch=4), replace(ONE, tflops=2.0), ROW, encoder=encoder)
    one = plan_of(encoder)
    assert one.hours == pytest.approx(2 * two.hours)
    with pytest.raises(SparsightError, match="shared evenly"):
        tune_plan(TINY, Cluster(gpus=3), ROW, encoder=encoder)
    with pytest.raises(SparsightError, match="at least one of the answer"):
        tune_plan(TINY, ONE, RowShape(8, 8), encoder=encoder)
