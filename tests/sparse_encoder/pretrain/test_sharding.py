"""Weights shared out over two gloo ranks, against whole replicas and one process with all pairs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.nn.functional import pad

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.batches import PairBatch, pair_batches
from sparse_encoder.pretrain.cluster_plan import Cluster, plan
from sparse_encoder.pretrain.config import pretrain_run
from sparse_encoder.pretrain.loop import PreTrainer, pretrain
from sparse_encoder.pretrain.loss import SparseContrast
from sparse_encoder.pretrain.sharding import Shards, local_counts, trunk_groups
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.text import Tokens
from tests.ranks import LocalRanks
from tests.sparse_encoder.pretrain.sharded_ranks import CASES, run_of, shards_of, train_both_ways
from tests.tiny_model import WORDS, png, write_tar

PRESET = "vit-tiny-8x"
EXACT = sorted(CASES.keys() - {"bf16"})
# Its negatives are drawn for a rank's batch, so that one process with all pairs draws others.
ALONE = sorted(CASES.keys() - {"bf16", "local negatives"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of ten pictures, with captions of unequal length; no picture is there twice."""
    made = tmp_path_factory.mktemp("ranks")
    for first, name in ((0, "a.tar"), (10, "b.tar")):
        files = {}
        for i, word in enumerate(WORDS, first):
            text = f"a red dog and a {word}{'!' * (i % 10)} {first}"
            files[f"{i}.png"], files[f"{i}.txt"] = png(i), text.encode()
        write_tar(made / name, files)
    return made


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """What each of two ranks found."""
    LocalRanks(train_both_ways, folder).wait(600)
    return [json.loads((folder / f"found{rank}.json").read_text()) for rank in range(2)]


class OneProcess(PreTrainer):
    """Trains on the pairs that two ranks would have."""

    def batches(self) -> Iterator[PairBatch]:
        streams = [
            pair_batches(
                self.clip,
                self.run,
                self.urls,
                start=self.state.step,
                rank=rank,
                n_ranks=2,
                skipped=self.skipped,
            )
            for rank in range(2)
        ]
        return (joined(*both) for both in zip(*streams, strict=True))


def joined(one: PairBatch, other: PairBatch) -> PairBatch:
    length = max(one.tokens.ids.shape[1], other.tokens.ids.shape[1])

    def rows(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([pad(x, (0, length - x.shape[1])) for x in (a, b)])

    tokens = Tokens(*(rows(a, b) for a, b in zip(one.tokens, other.tokens, strict=True)))
    return PairBatch(one.keys + other.keys, torch.cat([one.pixels, other.pixels]), tokens)


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT)
def test_losses_and_norms_are_those_of_whole_replicas(
    ranks: list[dict[str, Any]], case: str
) -> None:
    replicas, shards = ranks[0][case]["replicas"], ranks[0][case]["shard"]
    assert len(shards["losses"]) == 4
    assert shards["losses"] == pytest.approx(replicas["losses"], rel=1e-5)
    for (found, after), (expected, _) in zip(shards["norms"], replicas["norms"], strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
        assert after == pytest.approx(0.05, rel=1e-4) and found > 0.05  # clipped to the setting
    assert ranks[1][case]["shard"]["losses"] == shards["losses"]


@pytest.mark.slow
@pytest.mark.parametrize("case", ALONE)
def test_losses_are_those_of_one_process_with_the_whole_batch(
    ranks: list[dict[str, Any]], folder: Path, tmp_path: Path, case: str
) -> None:
    trainer = OneProcess(run_of(case), shards_of(folder), tmp_path)
    assert ranks[0][case]["shard"]["losses"] == pytest.approx(trainer.run_all(), rel=1e-5)
    gathered = torch.load(folder / f"{case} True.pt", weights_only=True)
    assert gathered.keys() == trainer.clip.state_dict().keys()
    for name, weight in trainer.clip.state_dict().items():
        torch.testing.assert_close(gathered[name], weight, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.slow
def test_bf16_stays_near_whole_replicas_until_rounding_tells(
    ranks: list[dict[str, Any]], folder: Path
) -> None:
    replicas, shards = ranks[0]["bf16"]["replicas"], ranks[0]["bf16"]["shard"]
    assert shards["losses"][0] == pytest.approx(replicas["losses"][0], rel=1e-3)
    assert shards["losses"][1] == pytest.approx(replicas["losses"][1], rel=1e-2)
    assert shards["norms"][0][0] == pytest.approx(replicas["norms"][0][0], rel=0.05)
    assert shards["losses"] != ranks[0]["micro-batches"]["shard"]["losses"]
    weights = torch.load(folder / "bf16 True.pt", weights_only=True)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT)
def test_validation_with_unequal_shares_finds_what_replicas_find(
    ranks: list[dict[str, Any]], case: str
) -> None:
    replicas, shards = ranks[0][case]["replicas"], ranks[0][case]["shard"]
    assert [line["step"] for line in shards["val"]] == [0, 2, 4]
    assert shards["val"] == [pytest.approx(line) for line in replicas["val"]]
    assert shards["val"][0]["val pairs"] == 11
    silent = [k for k in shards["train"][0] if "silent" in k or "L0" in k]
    assert len(silent) == 6
    for found, expected in zip(shards["train"], replicas["train"], strict=True):
        assert {k: found[k] for k in silent} == {k: expected[k] for k in silent}


@pytest.mark.slow
def test_each_rank_keeps_about_half_and_the_plan_says_how_much(
    ranks: list[dict[str, Any]],
) -> None:
    run = run_of("micro-batches", shard=True)
    clip = SparseClip.build(run.model)
    whole = sum(p.numel() * p.element_size() for p in clip.parameters())
    first, second = (rank["kept"] for rank in ranks)
    assert first["weights"] + second["weights"] == whole + 4  # both have the logit scale
    for found in (first, second):
        assert found["weights"] == pytest.approx(whole / 2, rel=0.01)
        assert found["gradients"] == found["weights"]
        assert found["moments"] == 2 * found["weights"]
    planned = plan(run, Cluster(gpus=2)).bytes["weights, gradients, moments"]
    assert planned == sum(first.values()) >= sum(second.values())


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_with_the_same_losses_and_weights(
    ranks: list[dict[str, Any]],
) -> None:
    for rank in ranks:
        found = rank["stopped"]
        assert len(found["whole"]) == 6
        assert found["again"] == found["whole"]
        assert found["equal"]


@pytest.mark.slow
def test_a_full_disk_on_one_rank_leaves_the_previous_checkpoint_and_all_ranks_say_so(
    ranks: list[dict[str, Any]],
) -> None:
    for rank in ranks:
        assert "free some space" in rank["stopped"]["full"]
        assert rank["stopped"]["newest"] == "step-00000006"


@pytest.mark.slow
def test_a_checkpoint_without_a_ranks_part_is_named_as_damaged(
    ranks: list[dict[str, Any]],
) -> None:
    for rank in ranks:
        assert "step-00000006/shards is damaged" in rank["stopped"]["damaged"]


def test_blocks_are_gathered_one_by_one_and_every_parameter_is_in_a_group() -> None:
    clip = SparseClip.build(pretrain_run(PRESET, {}).model)
    groups = trunk_groups(clip)
    blocks = [type(group).__name__ for group in groups if "Layer" in type(group).__name__]
    assert blocks == ["CLIPEncoderLayer"] * 4
    assert len(groups) == 4 + 2 + 2  # blocks, trunks, projections
    assert groups.index(clip.image_trunk) > max(
        groups.index(layer) for layer in clip.image_trunk.model.encoder.layers
    )
    grouped = {id(p) for group in groups for p in group.parameters()}
    heads = {id(p) for head in (clip.image_head, clip.text_head) for p in head.parameters()}
    assert {id(p) for p in clip.parameters()} - grouped - heads == {id(clip.log_scale)}


def test_a_rank_keeps_a_share_of_each_parameter_rounded_up_and_the_scale_whole() -> None:
    clip = SparseClip.build(pretrain_run(PRESET, {}).model)
    clip.image_trunk.requires_grad_(False)
    trained, frozen = local_counts(clip, 3)
    expected = {True: 0, False: 0}
    for name, p in clip.named_parameters():
        part = p if name == "log_scale" else p.detach().chunk(3)[0]
        expected[p.requires_grad] += part.numel()
    assert (trained, frozen) == (expected[True], expected[False])
    assert sum(local_counts(clip, 1)) == sum(p.numel() for p in clip.parameters())


@pytest.mark.parametrize(
    ("settings", "param", "word"),
    [
        ({"ema": 0.9}, "ema", "set ema=0"),
        ({"precision": "fp16"}, "precision", "bf16 or fp32"),
        ({}, "shard", "accelerate launch or torchrun"),  # one process
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    folder: Path, tmp_path: Path, settings: dict[str, object], param: str, word: str
) -> None:
    with pytest.raises(SparsightError, match=word) as caught:
        pretrain(PRESET, shards_of(folder), tmp_path, {"tracker": "", "shard": True, **settings})
    assert caught.value.param == param


@pytest.mark.parametrize("settings", [{}, {"shard": True}, {"ema": 0.9}])
@pytest.mark.parametrize("kind", ["fsdp variable", "fsdp", "deepspeed", "megatron_lm"])
def test_accelerates_own_sharding_is_refused_and_the_settings_name_is_told(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    kind: str,
) -> None:
    if kind == "fsdp variable":
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    else:
        found = DistributedType[kind.upper()]
        monkeypatch.setattr(Accelerator, "distributed_type", property(lambda _: found))
    with pytest.raises(SparsightError, match="--set shard=true") as caught:
        pretrain(PRESET, shards_of(folder), tmp_path, {"tracker": "", **settings})
    assert caught.value.param == "launch"


def test_a_trained_trunk_with_batch_norms_is_refused() -> None:
    run = replace(pretrain_run(PRESET, {}), shard=True)
    clip = SparseClip.build(run.model)
    clip.image_trunk.norm = nn.BatchNorm2d(3)
    with pytest.raises(SparsightError, match="the image trunk 'clip' has batch norms"):
        Shards(clip, SparseContrast(clip), Accelerator(cpu=True), run)


def test_a_checkpoint_from_before_the_setting_goes_on_and_one_of_another_value_does_not(
    folder: Path, tmp_path: Path
) -> None:
    settings = {"tracker": "", "samples": 32 * 4, "save_every": 2}
    losses = pretrain(PRESET, shards_of(folder), tmp_path, settings)
    file = tmp_path / "checkpoints" / "step-00000004" / "run.json"
    state = json.loads(file.read_text())
    del state["run"]["shard"], state["run"]["crop"], state["run"]["model"]["cap"]
    file.write_text(json.dumps(state))
    assert pretrain(PRESET, shards_of(folder), tmp_path, settings) == losses
    for other, name in (({"crop": 0.5}, "crop"), ({"model.cap": 40.0}, "model")):
        with pytest.raises(SparsightError, match=rf"\({name} differ\)"):
            pretrain(PRESET, shards_of(folder), tmp_path, {**settings, **other})
