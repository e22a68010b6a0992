"""The tuning loop: stage 1 the projector, stage 2 projector and LoRA, on any number of processes.

The loss of a step is the mean over the answer tokens of all its samples on all processes, so neither
micro-batches nor processes change it. The language model is frozen and whole on each process; only the
gradients of projector and LoRA are summed. Every checkpoint begins a new stream of samples, so that a
run that was killed and started again gives the very losses of one that was not.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate import Accelerator
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from tqdm import tqdm

from sparse_encoder.any_encoder import AnyEncoder
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.pair_stream import SkipCounts
from sparse_encoder.pretrain.sharding import refuse_foreign_shards
from sparse_encoder.pretrain.state import RunState
from vlm.edited_codes import CodeEditor, disturbed
from vlm.packing import IGNORED, SOFT, Batch, Laid, stack
from vlm.tuning.captioner import TunedCaptioner
from vlm.tuning.config import TuneRun
from vlm.tuning.ranks import begin_alike, sum_gradients
from vlm.tuning.report import TuneReport
from vlm.tuning.samples import Sample, Samples
from vlm.tuning.schedule import Schedule


class Weights:
    """What a checkpoint holds of the captioner: projector and LoRA, not the frozen model."""

    def __init__(self, captioner: TunedCaptioner) -> None:
        self._captioner = captioner

    def state_dict(self) -> dict[str, Any]:
        return {
            "projector": self._captioner.projector.state_dict(),
            "lora": get_peft_model_state_dict(self._captioner.llm),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._captioner.projector.load_state_dict(state["projector"])
        set_peft_model_state_dict(self._captioner.llm, state["lora"])


class Tuner:
    """The parts of a run on one rank: captioner, optimiser, samples, checkpoints."""

    def __init__(
        self,
        run: TuneRun,
        accelerator: Accelerator,
        schedule: Schedule,
        encoder: AnyEncoder,
        captioner: TunedCaptioner,
        editor: CodeEditor | None,
        samples: Samples,
        skipped: SkipCounts,
        out: Path,
    ) -> None:
        """editor: None where no concept is swapped."""
        refuse_foreign_shards(
            accelerator, "let each process hold the frozen model whole, in bf16, with checkpointing"
        )
        schedule.mix(0, accelerator.num_processes)
        schedule.mix(schedule.steps - 1, accelerator.num_processes)
        self.run = run
        self.accelerator = accelerator
        self.schedule = schedule
        self.encoder = encoder
        self.editor = editor
        self.samples = samples
        self.captioner = captioner.to(accelerator.device)
        if run.checkpointing:
            self.captioner.llm.gradient_checkpointing_enable({"use_reentrant": False})
        self.captioner.train()
        begin_alike(captioner.trained(1))
        self.optimiser: Any = accelerator.prepare(
            torch.optim.AdamW(
                [
                    {"params": list(captioner.projector.parameters())},
                    {"params": captioner.lora},
                ],
                betas=(0.9, 0.98),
                weight_decay=run.weight_decay,
            )
        )
        accelerator.register_for_checkpointing(Weights(captioner))
        self.state = RunState(accelerator, run, out, [])
        self.report = TuneReport(accelerator, out, skipped)

    def run_all(self) -> list[float]:
        """All steps, or what the newest checkpoint leaves of them; the loss of each."""
        state, schedule = self.state, self.schedule
        state.resume()
        self.report.go_on(state.step)
        bar = tqdm(
            total=schedule.steps,
            initial=state.step,
            unit="step",
            disable=not self.accelerator.is_main_process,
        )
        batches = self.samples.batches(state.step)
        while state.step < schedule.steps:
            with self.report.waiting():
                samples = next(batches)
            value = self.step(samples)
            state.losses.append(value)
            bar.update()
            last = state.step == schedule.steps
            shown = {"stage": schedule.stage(state.step - 1) + 1, "loss": f"{value:.3f}"}
            bar.set_postfix({**shown, "loading": f"{100 * self.report.lost:.0f}%"})
            if state.step % self.run.log_every == 0 or last:
                self.report.write(state.step, value, schedule.rates(state.step - 1))
            if state.step % self.run.save_every == 0 or last:
                state.save()
                batches = self.samples.batches(state.step)
        return state.losses

    def step(self, samples: Sequence[Sample]) -> float:
        """One update; the loss over the samples of all ranks, in nats an answer token."""
        step, stage = self.state.step, self.schedule.stage(self.state.step)
        self.captioner.set_stage(stage)
        # Dropout alone draws from it; no state of a generator need be kept.
        torch.manual_seed(hash((self.run.seed, step, self.accelerator.process_index)) % 2**63)
        n_tokens = int(self._sum(sum(_n_answer_tokens(r) for s in samples for r in s.rows)))
        if not n_tokens:
            raise SparsightError(
                f"no sample of step {step} can be trained on; what was left out is logged above",
                param="shards",
            )
        total, densities = 0.0, []
        for part in _micro_batches(samples, self.run.micro_batch):
            codes, batch = self._ready(part)
            if codes is not None:
                densities.append(codes.density())
            with self.accelerator.autocast():
                loss = self.captioner(codes, batch) / n_tokens
            if loss.requires_grad:  # not in stage 1, where no row of the part has an image
                self.accelerator.backward(loss)
            total += float(loss.detach())
        value = float(self._sum(total))
        if not math.isfinite(value):
            self._stop(samples, f"the loss is {value}")
        rates = self.schedule.rates(step)
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate
        trained = self.captioner.trained(stage)
        sum_gradients(trained, self.accelerator)
        norm = self.accelerator.clip_grad_norm_(trained, self.run.clip_norm or math.inf)
        # In fp16 such a gradient is usual, and the scaler leaves that step out.
        if self.run.precision != "fp16" and not math.isfinite(float(norm)):
            self._stop(samples, f"the norm of the gradient is {float(norm)}")
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.report.step(n_tokens, float(np.mean(densities)) if densities else math.nan)
        return value

    def _ready(self, samples: Sequence[Sample]) -> tuple[Codes | None, Batch]:
        """Codes of all images that the rows speak of, edited, and the rows, on the device."""
        device = self.accelerator.device
        pixels = [p for s in samples for p in s.pixels]
        codes = self.encoder.codes_of_pixels(torch.stack(pixels)) if pixels else None
        per_row: list[Codes] = []
        rows: list[Laid] = []
        n = 0
        for sample in samples:
            images = [codes.image(n + i) for i in range(len(sample.pixels))] if codes else []
            n += len(sample.pixels)
            images, sample_rows = self._edited(sample, images)
            for row in sample_rows:
                n_images = row.tokens.count(SOFT) // self.samples.n_soft
                per_row += images[:n_images]
                rows.append(row)
        together = Codes.cat([c.to(device) for c in per_row]) if per_row else None
        return together, stack(rows).to(device)

    def _edited(self, sample: Sample, images: list[Codes]) -> tuple[list[Codes], Sequence[Laid]]:
        random = np.random.default_rng(sample.seed)
        rows: Sequence[Laid] = sample.rows
        if sample.swap is not None and self.editor is not None:
            swap, row = sample.swap
            swapped = self.editor.swapped(images[0].to("cpu"), swap, random)
            if swapped is not None:
                images, rows = [swapped], [row]
        return [disturbed(codes, self.run.edits, random) for codes in images], rows

    def _sum(self, value: float) -> float:
        """Over all ranks."""
        here = torch.tensor(value, dtype=torch.float64 if self._cpu else torch.float32)
        return float(self.accelerator.reduce(here.to(self.accelerator.device), "sum"))

    @property
    def _cpu(self) -> bool:
        return bool(self.accelerator.device.type == "cpu")

    def _stop(self, samples: Sequence[Sample], problem: str) -> NoReturn:
        """Keeps the weights from before the batch that broke the run, and names its samples."""
        step, out = self.state.step, self.state.out
        where = out / f"bad-batch-rank{self.accelerator.process_index}.json"
        keys = [sample.where for sample in samples]
        where.write_text(json.dumps({"step": step, "problem": problem, "samples": keys}))
        if step:
            self.optimiser.zero_grad()
            self.state.save()
        raise SparsightError(
            f"{problem} at step {step}; its samples are listed in {where}. The weights from before "
            "it are kept: lower the learning rates in a new --out with --set start_from, or leave "
            "the samples out and run again",
            param="stage2.lr_lora",
        )


def _micro_batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Samples of like length together: little is padding."""
    ordered = sorted(samples, key=lambda s: max(len(row.tokens) for row in s.rows))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def _n_answer_tokens(row: Laid) -> int:
    return sum(target != IGNORED for target in row.targets)
