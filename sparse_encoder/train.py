"""Training the sparse heads on frozen trunks (Sparse CLIP's two changes: width and ReLU).

Trunk outputs are cached, so an epoch is a few matrix products. The density is steered to its aim
by a penalty whose weight rises while codes are too dense; caps and biases alone reached 9 % here.
"""

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from sparse_encoder.checkpoint import load_checkpoint, save_checkpoint
from sparse_encoder.contrastive import (
    contrastive_loss,
    excess_spread,
    l1_norm,
    similarity_scale,
    soft_match,
    teacher_loss,
    unit,
)
from sparse_encoder.dataset import find_shards
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.encoder_run import EncoderRun, encoder_run
from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead
from sparse_encoder.head_inputs import HeadInputs, head_inputs
from sparse_encoder.kept_steps import kept_steps, step_folder
from sparse_encoder.precision import bf16_is_fast
from sparse_encoder.teacher import teacher_view
from sparse_encoder.trunk_cache import cached_images

log = logging.getLogger(__name__)
SAVE_EVERY = 200  # steps between checkpoints
SHARDS = (
    "coco/train-*.tar",
    "flickr8k/train-*.tar",
    "concepts/train-*.tar",
    "visual7w/train-*.tar",
)


class HeadTrainer(nn.Module):
    """Both heads on standardised trunk outputs, and all that a step needs."""

    def __init__(self, inputs: HeadInputs, run: EncoderRun) -> None:
        super().__init__()
        torch.manual_seed(run.seed)
        self.run = run
        self.inputs = inputs
        self.image_head, self.text_head = (
            SparseHead(width, run.features, run.bias, run.activation, run.k, run.hidden)
            for width in (inputs.width, inputs.text_width)
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(min(run.scale_start, run.cap))))
        self.pressure = 0.3  # weight of the sparsity penalty; adapts

    @property
    def steps(self) -> int:
        return max(1, int(self.run.epochs * self.inputs.pairs.n_pairs) // self.run.batch)

    def allowed_density(self, step: int) -> float:
        """Falls from three times the aim to the aim over the first 70 % of the run."""
        return self.run.density * (1 + 2 * max(0.0, 1 - step / self.steps / 0.7))

    def image_code(self, x: Tensor) -> Tensor:
        code: Tensor = self.image_head((x - self.inputs.mean) / self.inputs.deviation)
        return code

    def text_code(self, y: Tensor) -> Tensor:
        code: Tensor = self.text_head(y * self.inputs.text_scale)
        return code

    def loss(self, step: int, random: np.random.Generator) -> Tensor:
        run, inputs = self.run, self.inputs
        sample, text = inputs.pairs.draw(run.batch, random)
        view = random.integers(len(inputs.views), size=run.batch) * (random.random(run.batch) > 0.3)
        x = inputs.views[torch.from_numpy(view), sample]
        y = inputs.text_vectors[text].float()
        match = soft_match(inputs.pairs.group[sample], y, run.soft, run.soft_temperature)
        # Dropped inputs sit at the mean, which is zero to the head.
        x = functional.dropout(x - inputs.mean, run.dropout) + inputs.mean
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            image = self.image_code(x)
            words = self.text_code(functional.dropout(y, run.dropout / 2))
        image, words = image.float(), words.float()
        scale = similarity_scale(self.log_scale, run.cap)
        loss = contrastive_loss(unit(image), unit(words), scale, match)
        if run.l1:
            # Of unit codes: a shorter code would buy a lower norm for nothing.
            loss = loss + run.l1 * (l1_norm(unit(image)) + l1_norm(unit(words))) / 2
        if run.teacher and len(inputs.outputs):
            loss = loss + run.teacher * self._teacher_loss(scale, random)
        if run.density < 1:
            allowed = self.allowed_density(step)
            share = (image > 0).float().mean(1)
            loss = loss + self.pressure * excess_spread(unit(image), share, allowed)
            if step % 10 == 0 and step > 0.05 * self.steps:
                self._adapt(sample, allowed)
        return loss

    def _teacher_loss(self, scale: Tensor, random: np.random.Generator) -> Tensor:
        """On mixtures of two photographs, which cover more of the trunk's space than 7,000 do."""
        inputs = self.inputs
        shape = (2, self.run.teacher_batch)
        n = inputs.views.shape[1]
        one, other = (torch.from_numpy(i) for i in random.integers(n, size=shape))
        view = torch.from_numpy(random.integers(len(inputs.views), size=self.run.teacher_batch))
        part = torch.from_numpy(random.beta(0.5, 0.5, size=(shape[1], 1))).float()
        mixed = inputs.views[view, one] * part + inputs.views[0, other] * (1 - part)
        names = inputs.names if random.random() < 0.5 else inputs.bare_names
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            image, words = self.image_code(mixed), self.text_code(names.float())
        teacher = teacher_view(inputs.trunk, mixed, inputs.outputs)
        return teacher_loss(unit(image.float()), unit(words.float()), scale, teacher)

    @torch.no_grad()
    def _adapt(self, sample: Tensor, allowed: float) -> None:
        """A denser batch than allowed raises the pressure, a sparser one lowers it."""
        density = float((self.image_code(self.inputs.views[0, sample[:128]]) > 0).float().mean())
        self.pressure = max(1e-3, self.pressure * (1.12 if density > allowed else 0.9))

    @torch.no_grad()
    def export(self, encoder: SparseEncoder) -> None:
        """Copies the trained heads into the encoder, taking raw trunk outputs."""
        encoder.image_head.load_state_dict(self.image_head.state_dict())
        encoder.text_head.load_state_dict(self.text_head.state_dict())
        encoder.image_head.fold_input_scale(self.inputs.mean, self.inputs.deviation)
        text_width = self.inputs.text_width
        deviation = torch.full((text_width,), 1 / self.inputs.text_scale)
        encoder.text_head.fold_input_scale(torch.zeros(text_width), deviation)


def train_encoder(
    preset: str, data: Path, out: Path, settings: Mapping[str, Any] | None = None
) -> list[float]:
    """Trains PRESET's heads on the shards below `data`; writes config.json and the heads to `out`.

    The heads at 1, 3, 10, 30 and 100 % of the run stay in ``checkpoints/``, each as an encoder that
    `SparseEncoder.load` reads. Returns the loss of every step. A run that was stopped goes on from its last checkpoint.
    """
    run = encoder_run(preset, settings or {})
    out.mkdir(parents=True, exist_ok=True)
    encoder = SparseEncoder.build(run.encoder)
    images = cached_images(find_shards(data, *SHARDS), encoder.image_trunk, run.image_trunk)
    trainer = HeadTrainer(head_inputs(encoder, images, run), run)
    config = {"name": out.name, "encoder": encoder.config_json(), "run": run.to_json()}

    def write(folder: Path) -> None:
        trainer.export(encoder)
        encoder.save_heads(folder)
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    losses = fit(trainer, out, lambda step: _keep(out / "checkpoints" / step_folder(step), write))
    write(out)
    return losses


def _keep(folder: Path, write: Callable[[Path], None]) -> None:
    """A folder that appears whole."""
    aside = folder.with_name("part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write(aside)
        shutil.rmtree(folder, ignore_errors=True)  # of the same step of the same run
        aside.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise SparsightError(
            f"cannot write {folder} ({error}); free some space, and run the same command again"
        ) from error


def fit(
    trainer: HeadTrainer, out: Path | None, keep: Callable[[int], None] = lambda _: None
) -> list[float]:
    """All steps of the run, or what a checkpoint in `out` leaves of them.

    keep: called with the number of finished steps where the heads are to stay (`kept_steps`).
    """
    run = trainer.run
    matrices = [p for p in trainer.parameters() if p.ndim > 1]
    rest = [p for p in trainer.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": run.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=run.lr, betas=(0.9, 0.98), fused=True)
    losses = _resume(trainer, optimiser, out) if out else []
    steps, kept = trainer.steps, kept_steps(trainer.steps)
    bar = tqdm(range(len(losses), steps), initial=len(losses), total=steps, unit="step")
    for step in bar:
        warm = min(1.0, (step + 1) / 50)
        for group in optimiser.param_groups:
            group["lr"] = run.lr * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        torch.manual_seed(run.seed * 1_000_003 + step)  # dropout, so that a resumed run is equal
        loss = trainer.loss(step, np.random.default_rng((run.seed, 2, step)))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SparsightError(f"the loss is {value} at step {step}; lower lr", param="lr")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            trainer.log_scale.clamp_(max=math.log(run.cap))
        losses.append(value)
        bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", pressure=f"{trainer.pressure:.2f}")
        if out and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
            _checkpoint(trainer, optimiser, losses, out)
        if step + 1 in kept:
            keep(step + 1)
    return losses


def _checkpoint(trainer: HeadTrainer, optimiser: Any, losses: list[float], out: Path) -> None:
    state = {
        "losses": losses,
        "pressure": trainer.pressure,
        "heads": trainer.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    save_checkpoint(out, trainer.run.to_json(), state)


def _resume(trainer: HeadTrainer, optimiser: Any, out: Path) -> list[float]:
    state = load_checkpoint(out, trainer.run.to_json())
    if state is None:
        return []
    trainer.load_state_dict(state["heads"])
    optimiser.load_state_dict(state["optimiser"])
    trainer.pressure = state["pressure"]
    losses: list[float] = state["losses"]
    log.info("going on after step %d", len(losses))
    return losses
