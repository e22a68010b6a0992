from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.cluster_plan import Cluster, flop_counter, plan
from sparse_encoder.pretrain.config import pretrain_run
from sparse_encoder.pretrain.loop import PreTrainer
from tests.tiny_model import png, write_tar

ONE = Cluster(gpus=1, tflops=1.0, utilisation=1.0)
TINY = pretrain_run("vit-tiny-8x", {"tracker": "", "samples": 64})


def shard(folder: Path) -> list[str]:
    text = b"a photo of a dog on a red beach" * 2  # longer than max_tokens: no padding
    files = {f"{i}.{x}": d for i in range(8) for x, d in (("png", png(i)), ("txt", text))}
    return [str(write_tar(folder / "a.tar", files))]


@pytest.mark.parametrize("micro_batch", [8, 32])
def test_the_operations_of_a_step_are_those_counted_in_a_real_one(
    tmp_path: Path, micro_batch: int
) -> None:
    run = replace(TINY, micro_batch=micro_batch)
    trainer = PreTrainer(run, shard(tmp_path), tmp_path)
    batch = next(trainer.batches())
    with flop_counter() as counter:
        trainer.step(batch)
    assert plan(run, ONE).flops_per_step == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_the_activations_are_those_kept_in_a_real_forward_pass(tmp_path: Path) -> None:
    run = replace(TINY, micro_batch=32)
    trainer = PreTrainer(run, shard(tmp_path), tmp_path)
    batch = next(trainer.batches())
    parameters = {p.untyped_storage().data_ptr() for p in trainer.clip.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = trainer.image_side(batch.pixels), trainer.text_side(batch.tokens)
    inputs = batch.pixels.numel() * 4
    measured = sum(kept.values()) - inputs
    assert outputs[0].shape == (32, 16)
    assert plan(run, ONE).bytes["activations of a micro-batch"] == pytest.approx(measured, rel=0.1)


def test_weights_and_moments_take_sixteen_bytes_each_and_sharding_shares_them() -> None:
    alone = plan(TINY, ONE)
    n = alone.parameters["all"]
    assert alone.bytes["weights, gradients, moments"] == 16 * n
    shared = plan(replace(TINY, shard=True), Cluster(gpus=4))
    assert shared.bytes["weights, gradients, moments"] == pytest.approx(16 * n / 4, rel=0.01)


def test_sharded_trunks_keep_whole_gradients_only_while_micro_batches_add_up() -> None:
    run = replace(TINY, shard=True, micro_batch=8)
    name = "whole gradients between micro-batches"
    n = plan(run, Cluster(gpus=2)).parameters
    assert plan(run, Cluster(gpus=4)).bytes[name] == 0  # 8 pairs a process
    assert plan(run, Cluster(gpus=2)).bytes[name] == 4 * (n["image trunk"] + n["text trunk"])


def test_the_heads_are_the_most_that_is_gathered_of_the_papers_large_model() -> None:
    run = pretrain_run("vit-l14-72x", {"model.text.tokenizer": "bytes", "shard": True})
    heads = 2 * (768 * 55_296 + 55_296)
    assert plan(run, Cluster(gpus=256)).bytes["gathered at a time"] == 12 * heads
    tiny = plan(replace(TINY, shard=True, model=run.model), Cluster(gpus=2))
    assert tiny.bytes["gathered at a time"] == 12 * heads


def test_hours_fall_with_the_speed_of_the_gpus() -> None:
    one, two = plan(TINY, ONE), plan(TINY, replace(ONE, tflops=2.0))
    assert one.hours == pytest.approx(2 * two.hours)


def test_the_papers_large_model_has_its_parameters_and_the_table_says_so() -> None:
    large = plan(pretrain_run("vit-l14-72x", {"model.text.tokenizer": "bytes"}), Cluster(gpus=256))
    # ViT-L/14 has 304 M; the widened layer adds 768 x 55,296 = 42.5 M a tower and its bias.
    assert large.parameters["image trunk"] == pytest.approx(304e6, rel=0.01)
    assert large.parameters["heads"] == 2 * (768 * 55_296 + 55_296)
    assert "85.0 M" in large.table()


def test_a_cluster_that_cannot_share_the_batch_is_refused() -> None:
    with pytest.raises(SparsightError, match="shared evenly"):
        plan(TINY, Cluster(gpus=5))
