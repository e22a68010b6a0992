"""Pretraining a sparse CLIP on any number of ranks (the recipe of Sparse CLIP, arXiv 2601.20075).

One step: the trunks take the batch in micro-batches, the loss takes all trunk outputs of all ranks
and never holds the codes. Every checkpoint begins a new stream of pairs, so that a run that was
killed and started again gives the very losses of one that was not.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.batches import PairBatch, pair_batches
from sparse_encoder.pretrain.chunked_loss import ContrastiveResult
from sparse_encoder.pretrain.config import PretrainRun, pretrain_run
from sparse_encoder.pretrain.grad_cache import backward_whole_batch
from sparse_encoder.pretrain.loss import SparseContrast
from sparse_encoder.pretrain.optimiser import adamw, learning_rate, moving_average
from sparse_encoder.pretrain.pair_stream import SkipCounts
from sparse_encoder.pretrain.run_report import RunReport
from sparse_encoder.pretrain.sharding import Shards, check_launch
from sparse_encoder.pretrain.sides import Side, loss_with_local_negatives
from sparse_encoder.pretrain.state import RunState
from sparse_encoder.pretrain.validation import Validator
from sparse_encoder.towers.hub import export
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.start_from import start_from
from sparse_encoder.towers.text import Tokens

log = logging.getLogger(__name__)


class PreTrainer:
    """The parts of a run on one rank: model, optimiser, pairs, checkpoints."""

    def __init__(
        self,
        run: PretrainRun,
        urls: Sequence[str],
        out: Path,
        val_urls: Sequence[str] = (),
        zeroshot_urls: Sequence[str] = (),
    ) -> None:
        self.run = run
        self.urls = list(urls)
        self.accelerator = Accelerator(
            mixed_precision="no" if run.precision == "fp32" else run.precision,
            log_with=run.tracker or None,
            project_dir=str(out),
        )
        check_launch(self.accelerator, run)
        self.local_batch = run.local_batch(self.accelerator.num_processes)
        torch.manual_seed(run.seed)
        self.clip = (
            start_from(run.start_from, run.model) if run.start_from else SparseClip.build(run.model)
        )
        self.clip.train()
        sides = (
            Side(self.clip.image_trunk, self.clip.image_projection),
            Side(self.clip.text_trunk, self.clip.text_projection),
        )
        contrast = SparseContrast(self.clip)
        # Before the optimiser, since it puts other parameters in place.
        self.shards = Shards(self.clip, contrast, self.accelerator, run) if run.shard else None
        optimiser = self.shards.optimiser if self.shards else adamw(self.clip, run)
        self.average = moving_average(self.clip, run.ema)
        if self.average is not None:
            self.average.to(self.accelerator.device)
        self.image_side, self.text_side, self.loss_module = (
            self._wrap(part) for part in (*sides, contrast)
        )
        self.optimiser: Any = optimiser if self.shards else self.accelerator.prepare(optimiser)
        if self.average is not None:
            self.accelerator.register_for_checkpointing(self.average)
        self.state = RunState(self.accelerator, run, out, [], self.shards)
        self.skipped = SkipCounts()
        self.validator = Validator(run, self.accelerator, val_urls, zeroshot_urls)
        self.report = RunReport(run, self.accelerator, out, self.skipped)

    def _wrap(self, part: nn.Module) -> nn.Module:
        """DDP refuses a module in which nothing trains, such as a frozen trunk."""
        if not self.shards and any(p.requires_grad for p in part.parameters()):
            wrapped: nn.Module = self.accelerator.prepare(part)
            return wrapped
        return part.to(self.accelerator.device)

    def batches(self) -> Iterator[PairBatch]:
        """A new stream, which belongs to the step that is next."""
        return pair_batches(
            self.clip,
            self.run,
            self.urls,
            start=self.state.step,
            rank=self.accelerator.process_index,
            n_ranks=self.accelerator.num_processes,
            skipped=self.skipped,
        )

    def step(self, batch: PairBatch) -> tuple[float, ContrastiveResult]:
        """One update; the loss over the whole batch of all ranks, and what was counted."""
        with self.accelerator.autocast():
            value, found = self._with_local(batch) if self.run.local_weight else self._cached(batch)
        mean = float(self.accelerator.reduce(value, "mean"))
        if not math.isfinite(mean):
            self._stop(batch, f"the loss is {mean}")
        norm = self._clip_gradients(self.run.clip_norm or math.inf)
        # A finite loss with such a gradient would break the weights, and a checkpoint of them. In
        # fp16 it is usual, and the scaler leaves that step out.
        if self.run.precision != "fp16" and not math.isfinite(float(norm)):
            self._stop(batch, f"the norm of the gradient is {float(norm)}")
        lr = learning_rate(self.run, self.state.step)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.clip.clip_scale()
        if self.average is not None:
            self.average.update_parameters(self.clip)
        return mean, found

    def _clip_gradients(self, limit: float) -> Tensor:
        """Their norm before, over all ranks' shards where the model is shared out."""
        if self.shards is not None:
            return self.shards.clip_gradients(limit)
        norm: Tensor = self.accelerator.clip_grad_norm_(self.clip.parameters(), limit)
        return norm

    def _cached(self, batch: PairBatch) -> tuple[Tensor, ContrastiveResult]:
        """Gradients of the contrastive loss, by micro-batches."""
        images, texts = batch.micro_batches(self.run.micro_batch)
        device = self.accelerator.device
        found: list[ContrastiveResult] = []

        def loss(outputs: Sequence[Tensor]) -> Tensor:
            self.report.window.add(outputs[0], outputs[1])
            found.append(self.loss_module(*outputs))
            return found[0].loss

        value = backward_whole_batch(
            [self.image_side, self.text_side],
            [
                [x.to(device) for x in images],
                [Tokens(*(t.to(device) for t in part)) for part in texts],
            ],
            loss,
            backward=self.accelerator.backward,
            no_sync=self._no_sync,
        )
        return value, found[0]

    def _with_local(self, batch: PairBatch) -> tuple[Tensor, ContrastiveResult]:
        """Gradients of the contrastive loss plus the local one, which needs the batch whole."""
        moved = batch.to(self.accelerator.device)
        sides = self.image_side, self.text_side
        value, found, outputs = loss_with_local_negatives(
            sides, self.loss_module, self.clip, moved, self.run.local_weight
        )
        self.report.window.add(*outputs)
        self.accelerator.backward(value)
        return value.detach(), found

    def _no_sync(self, side: nn.Module) -> AbstractContextManager[Any]:
        if self.shards is not None:
            return self.shards.no_sync(side)
        held: AbstractContextManager[Any] = self.accelerator.no_sync(side)
        return held

    def _stop(self, batch: PairBatch, problem: str) -> None:
        """Names the batch that broke the run; the last checkpoint is from before it."""
        where = self.state.out / f"bad-batch-rank{self.accelerator.process_index}.json"
        where.write_text(
            json.dumps({"step": self.state.step, "problem": problem, "keys": batch.keys})
        )
        raise SparsightError(
            f"{problem} at step {self.state.step}; its pairs are listed in {where}. The last "
            "checkpoint is from before it: lower lr, or leave the pairs out, and run again",
            param="lr",
        )

    def run_all(self) -> list[float]:
        """All steps, or what the newest checkpoint leaves of them."""
        run, state = self.run, self.state
        state.resume()
        self.report.go_on(state.step)
        if self.validator and not state.step:  # where it begins; and bad shards are told of now
            self._validate()
        bar = tqdm(
            total=run.steps,
            initial=state.step,
            unit="step",
            disable=not self.accelerator.is_main_process,
        )
        batches = self.batches()
        while state.step < run.steps:
            with self.report.waiting():
                batch = next(batches)
            value, found = self.step(batch)
            state.losses.append(value)
            bar.update()
            last = state.step == run.steps
            if state.step % run.log_every == 0 or last:
                with self._whole_heads():
                    self.report.training(state.step, value, found, self.clip)
            if self.validator and (state.step % run.val_every == 0 or last):
                self._validate()
            bar.set_postfix(
                loss=f"{value:.3f}", l0=f"{float(found.image.l0):.0f}", **self.report.short
            )
            if state.step % run.save_every == 0 or state.step in run.kept_steps:
                state.save()
                batches = self.batches()
        return state.losses

    def _validate(self) -> None:
        with self._whole_heads():
            self.report.validation(self.state.step, self.validator, self.best)

    def _whole_heads(self) -> AbstractContextManager[None]:
        """Around calls of the heads outside the loss."""
        return nullcontext() if self.shards is None else self.shards.whole_heads()

    @property
    def best(self) -> SparseClip:
        """What the run is for: the average of the weights where one is kept, else the last."""
        if self.average is None:
            return self.clip
        averaged: Any = self.average.module
        return averaged  # type: ignore[no-any-return]

    def result(self) -> SparseClip | None:
        """`best` in one piece, on the main process; all ranks call it."""
        if self.shards is not None:
            return self.shards.gathered()
        return self.best if self.accelerator.is_main_process else None


def pretrain(
    preset: str,
    urls: Sequence[str],
    out: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    val_urls: Sequence[str] = (),
    zeroshot_urls: Sequence[str] = (),
) -> list[float]:
    """Trains PRESET on the shards `urls`; writes ``out/model``, which `AutoModel` loads.

    val_urls, zeroshot_urls: shards that are measured on and not trained on (see `Validator`).
    Returns the loss of every step. The same call on the same number of ranks goes on with a run that
    was stopped. Under ``accelerate launch`` every process calls it.
    """
    run = pretrain_run(preset, settings or {})
    out.mkdir(parents=True, exist_ok=True)
    trainer = PreTrainer(run, urls, out, val_urls, zeroshot_urls)
    if run.tracker:
        trainer.accelerator.init_trackers("pretrain")
    losses = trainer.run_all()
    result = trainer.result()  # while the processes can still talk
    if result is not None:
        export(result.eval(), out / "model")
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()  # last, for it takes the processes apart
    for kind, n in trainer.skipped.totals().items():
        if n:
            log.warning("left out in this session: %d of kind %s", n, kind)
    return losses
