"""FSC-CLIP's local hard negatives in a pretraining step, against the plain sum of both losses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.batches import PairBatch
from sparse_encoder.pretrain.config import PretrainRun, pretrain_run
from sparse_encoder.pretrain.loop import PreTrainer, pretrain
from sparse_encoder.pretrain.loss import SparseContrast
from sparse_encoder.towers.local_loss import local_loss, tokenize_negatives
from tests.tiny_model import png, write_tar

WEIGHT = 0.2
RUN = replace(
    pretrain_run("vit-tiny-8x", {"tracker": "", "batch": 8, "samples": 24, "micro_batch": 8}),
    local_weight=WEIGHT,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Captions with words to swap, and one of a single word, which has no negative."""
    files = {}
    for i, text in enumerate((b"a red dog on a blue car", b"a man with snow and a cat", b"tree")):
        files[f"{i}.png"], files[f"{i}.txt"] = png(i), text
    return [str(write_tar(tmp_path_factory.mktemp("shards") / "a.tar", files))]


def gradients(trainer: PreTrainer) -> dict[str, Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in trainer.clip.named_parameters()
        if parameter.grad is not None
    }


def batch_of(trainer: PreTrainer) -> PairBatch:
    return next(trainer.batches())


def test_a_step_has_the_gradient_of_the_contrastive_plus_the_weighted_local_loss(
    shards: list[str], tmp_path: Path
) -> None:
    trainer = PreTrainer(RUN, shards, tmp_path)
    clip, batch = trainer.clip, batch_of(trainer)
    assert batch.negatives is not None
    assert not batch.negatives.mask.bool().any(-1).all()  # "tree" has none
    value, _ = trainer._with_local(batch)
    found = gradients(trainer)
    clip.zero_grad()
    plain = SparseContrast(clip)(
        clip.image_trunk_output(batch.pixels), clip.text_trunk_output(batch.tokens)
    ).loss
    local = local_loss(clip, batch.pixels, batch.tokens, batch.negatives)
    (plain + WEIGHT * local).backward()
    assert local > 0
    assert float(value) == pytest.approx(float((plain + WEIGHT * local).detach()), rel=1e-5)
    expected = gradients(trainer)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_local_loss_reaches_both_trunks_and_changes_their_gradients(
    shards: list[str], tmp_path: Path
) -> None:
    trainer = PreTrainer(RUN, shards, tmp_path)
    batch = batch_of(trainer)
    with_local, _ = trainer._with_local(batch)
    found = gradients(trainer)
    trainer.clip.zero_grad()
    without, _ = trainer._cached(batch)
    assert with_local > without
    changed = {
        name.split(".")[0]
        for name, gradient in gradients(trainer).items()
        if not torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-7)
    }
    assert {"image_trunk", "text_trunk", "image_projection", "text_projection"} <= changed


def test_negatives_are_made_only_where_they_are_asked_for(
    shards: list[str], tmp_path: Path
) -> None:
    trainer = PreTrainer(replace(RUN, local_weight=0.0), shards, tmp_path)
    assert batch_of(trainer).negatives is None


def test_the_same_batch_has_the_same_negatives(shards: list[str], tmp_path: Path) -> None:
    one, other = (batch_of(PreTrainer(RUN, shards, tmp_path)).negatives for _ in range(2))
    assert one is not None
    assert other is not None
    assert torch.equal(one.ids, other.ids)


def test_a_run_with_local_negatives_ends_with_a_model(shards: list[str], tmp_path: Path) -> None:
    settings = {"tracker": "", "batch": 8, "samples": 32, "micro_batch": 8, "local_weight": WEIGHT}
    losses = pretrain("vit-tiny-8x", shards, tmp_path, settings)
    plain = pretrain("vit-tiny-8x", shards, tmp_path / "plain", {**settings, "local_weight": 0.0})
    assert losses[0] > plain[0]
    assert (tmp_path / "model").is_dir()


@pytest.mark.parametrize(("micro_batch", "n_ranks", "refused"), [(8, 1, True), (8, 2, False)])
def test_micro_batches_smaller_than_a_ranks_share_are_refused(
    micro_batch: int, n_ranks: int, refused: bool
) -> None:
    run = PretrainRun(batch=16, samples=16, micro_batch=micro_batch, local_weight=WEIGHT)
    if not refused:
        assert run.local_batch(n_ranks) == 8
        return
    with pytest.raises(SparsightError, match="set micro_batch=16") as caught:
        run.local_batch(n_ranks)
    assert caught.value.param == "micro_batch"


def test_negatives_longer_than_the_captions_are_padded_together(
    shards: list[str], tmp_path: Path
) -> None:
    """A caption alone is shorter than a batch's longest negative only where padding differs."""
    trainer = PreTrainer(RUN, shards, tmp_path)
    batch, trunk = batch_of(trainer), trainer.clip.text_trunk
    longer = tokenize_negatives(trunk, ["a red dog on a blue car now"] * 8, seed=0)
    assert longer.ids.shape[-1] != batch.tokens.ids.shape[1]
    value, _ = trainer._with_local(batch._replace(negatives=longer))
    plain = SparseContrast(trainer.clip)(
        trainer.clip.image_trunk_output(batch.pixels),
        trainer.clip.text_trunk_output(batch.tokens),
    ).loss
    local = local_loss(trainer.clip, batch.pixels, batch.tokens, longer)
    assert float(value) == pytest.approx(float((plain + WEIGHT * local).detach()), rel=1e-5)
