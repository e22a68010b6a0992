"""What test_sharding.py starts on two ranks: the same runs with whole replicas and shared out.

`train_both_ways` writes ``found0.json`` and ``found1.json`` to its folder, which holds ``a.tar`` and ``b.tar``.
"""

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.distributed.tensor import DTensor

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.config import PretrainRun, pretrain_run
from sparse_encoder.pretrain.loop import PreTrainer
from sparse_encoder.pretrain.metrics import read_metrics
from sparse_encoder.pretrain.state import newest_checkpoint

BASE = {
    "samples": 32 * 4,
    "tracker": "",
    "log_every": 2,
    "warmup": 4,
    "lr": 3e-3,
    "micro_batch": 5,
    "clip_norm": 0.05,
    "val_every": 2,
    "val_pairs": 11,  # six for one rank, five for the other: two micro-batches and one
}
CASES: dict[str, dict[str, Any]] = {
    "micro-batches": {},
    "one micro-batch": {"micro_batch": 16},
    "siglip": {"model.loss": "siglip", "model.l1": 0.01},
    "local negatives": {"local_weight": 0.2, "micro_batch": 16},
    "codes held": {"model.activation": "batch_topk", "model.k": 8, "model.l1": 1.0},
    "frozen trunk": {"model.image.frozen": True, "model.text.projection": 16},
    "bf16": {"precision": "bf16"},
}


def run_of(case: str, **settings: Any) -> PretrainRun:
    return pretrain_run("vit-tiny-8x", {**BASE, **CASES[case], **settings})


def shards_of(folder: Path) -> list[str]:
    return [str(folder / name) for name in ("a.tar", "b.tar")]


class Recording(PreTrainer):
    """Writes down the gradients' norm before clipping and after; may stop at a step."""

    norms: list[tuple[float, float]]
    stop_at = -1

    def _clip_gradients(self, limit: float) -> Tensor:
        norm = super()._clip_gradients(limit)
        self.norms.append((float(norm), float(super()._clip_gradients(1e9))))
        return norm

    def step(self, batch: Any) -> Any:
        if self.state.step == self.stop_at:
            raise KeyboardInterrupt
        return super().step(batch)


def trainer_of(run: PretrainRun, folder: Path, out: str) -> Recording:
    AcceleratorState._reset_state()  # it will not change precision between runs
    (folder / out).mkdir(exist_ok=True)
    made = Recording(run, shards_of(folder), folder / out, shards_of(folder))
    made.norms = []
    return made


def trained(folder: Path, case: str, shard: bool) -> dict[str, Any]:
    out = f"{case} {shard}"
    made = trainer_of(run_of(case, shard=shard), folder, out)
    losses = made.run_all()
    result = made.result()
    if result is None:
        return {"losses": losses, "norms": made.norms}
    torch.save(result.state_dict(), folder / f"{out}.pt")
    lines = [read_metrics(folder / out, kind) for kind in ("train", "val")]
    return {"losses": losses, "norms": made.norms, "train": lines[0], "val": lines[1]}


def held_bytes(tensors: Iterator[Tensor]) -> int:
    """Of this rank's own parts."""
    local = (t.to_local() if isinstance(t, DTensor) else t for t in tensors)
    return sum(t.numel() * t.element_size() for t in local)


def kept(folder: Path) -> dict[str, int]:
    """Bytes that this rank keeps in a step, by what they are."""
    made = trainer_of(run_of("micro-batches", shard=True), folder, "kept")
    made.step(next(made.batches()))
    made._cached(next(made.batches()))
    parameters = list(made.clip.parameters())
    moments = [m for s in made.optimiser.state.values() for n, m in s.items() if n != "step"]
    return {
        "weights": held_bytes(iter(parameters)),
        "gradients": held_bytes(p.grad for p in parameters if p.grad is not None),
        "moments": held_bytes(iter(moments)),
    }


def stopped(folder: Path) -> dict[str, Any]:
    """A run that is stopped after a checkpoint and goes on; then its disk fills; then it is damaged."""
    run = run_of("micro-batches", shard=True, save_every=2, samples=32 * 6)
    whole = trainer_of(run, folder, "whole")
    losses = whole.run_all()
    dying = trainer_of(run, folder, "stopped")
    dying.stop_at = 5
    with suppress(KeyboardInterrupt):
        dying.run_all()
    again = trainer_of(run, folder, "stopped")
    found = {"whole": losses, "again": list(again.run_all())}
    equal = all(
        torch.equal(a.full_tensor(), b.full_tensor()) if isinstance(a, DTensor) else a.equal(b)
        for a, b in zip(whole.clip.parameters(), again.clip.parameters(), strict=True)
    )
    again.state.losses.append(0.0)
    with full_disk(again.accelerator.process_index == 1):
        said = refusal(again.state.save)
    newest = newest_checkpoint(folder / "stopped")
    assert newest is not None
    if again.accelerator.is_main_process:
        (newest / "shards" / "__1_0.distcp").unlink()
    again.accelerator.wait_for_everyone()
    damaged = refusal(trainer_of(run, folder, "stopped").state.resume)
    return {**found, "equal": equal, "full": said, "newest": newest.name, "damaged": damaged}


def refusal(call: Any) -> str:
    try:
        call()
    except SparsightError as error:
        return str(error)
    return ""


@contextmanager
def full_disk(here: bool) -> Iterator[None]:
    """No file may grow beyond 20 KB on this rank."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if here:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def train_both_ways(folder: Path) -> None:
    found: dict[str, Any] = {case: {} for case in CASES}
    for case in CASES:
        for shard in (False, True):
            found[case]["shard" if shard else "replicas"] = trained(folder, case, shard)
    found["kept"], found["stopped"] = kept(folder), stopped(folder)
    rank = torch.distributed.get_rank()
    (folder / f"found{rank}.json").write_text(json.dumps(found))
    # As `pretrain` ends: a rank that exits with gloo's threads at work may be aborted by them.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
