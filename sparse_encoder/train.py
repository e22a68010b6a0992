"""Training the sparse heads on frozen trunks (Sparse CLIP's two changes: width and ReLU).

Trunk outputs are cached, so an epoch is a few matrix products. The density is steered to its aim
by a penalty whose weight rises while codes are too dense; caps and biases alone reached 9 % here.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from sparse_encoder.checkpoint import load_checkpoint, save_checkpoint
from sparse_encoder.contrastive import (
    contrastive_loss,
    excess_spread,
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
from sparse_encoder.pairs import PairTable, make_pairs
from sparse_encoder.precision import bf16_is_fast
from sparse_encoder.teacher import teacher_classes, teacher_view
from sparse_encoder.trunk_cache import CachedImages, cached_images, cached_texts

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

    def __init__(self, encoder: SparseEncoder, images: CachedImages, run: EncoderRun) -> None:
        super().__init__()
        torch.manual_seed(run.seed)
        self.run = run
        self.trunk: Any = encoder.image_trunk
        self.pairs: PairTable = make_pairs(images.samples, run.label_weight, run.rule_weight)
        self.image_head = SparseHead(self.trunk.width, run.features, run.bias, run.activation)
        text_width = encoder.text_trunk.width
        self.text_head = SparseHead(text_width, run.features, run.bias, run.activation)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # CLIP's start
        windows = np.random.default_rng((run.seed, 1))
        views = [images.pooled(), *(images.windows(windows) for _ in range(run.windows))]
        self.views = torch.stack(views)  # (views, images, width)
        self.mean, self.deviation = views[0].mean(0), views[0].std(0).clamp_min(1e-6)
        self.text_vectors = self._text_vectors(encoder, self.pairs.texts)
        # A text vector's entries have deviation about 1 after this, like an image's.
        self.text_scale = float(text_width**0.5 / self.text_vectors.norm(dim=1).mean())
        names, self.outputs = teacher_classes(images.samples)
        self.names = self._text_vectors(encoder, [f"a photo of a {n}." for n in names])
        self.bare_names = self._text_vectors(encoder, names)
        self.pressure = 0.3  # weight of the sparsity penalty; adapts

    @property
    def steps(self) -> int:
        return max(1, int(self.run.epochs * self.pairs.n_pairs) // self.run.batch)

    def allowed_density(self, step: int) -> float:
        """Falls from three times the aim to the aim over the first 70 % of the run."""
        return self.run.density * (1 + 2 * max(0.0, 1 - step / self.steps / 0.7))

    def image_code(self, x: Tensor) -> Tensor:
        code: Tensor = self.image_head((x - self.mean) / self.deviation)
        return code

    def text_code(self, y: Tensor) -> Tensor:
        code: Tensor = self.text_head(y * self.text_scale)
        return code

    def loss(self, step: int, random: np.random.Generator) -> Tensor:
        run = self.run
        sample, text = self.pairs.draw(run.batch, random)
        view = random.integers(len(self.views), size=run.batch) * (random.random(run.batch) > 0.3)
        x = self.views[torch.from_numpy(view), sample]
        y = self.text_vectors[text].float()
        match = soft_match(self.pairs.group[sample], y, run.soft, run.soft_temperature)
        # Dropped inputs sit at the mean, which is zero to the head.
        x = functional.dropout(x - self.mean, run.dropout) + self.mean
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            image = self.image_code(x)
            words = self.text_code(functional.dropout(y, run.dropout / 2))
        image, words = image.float(), words.float()
        scale = similarity_scale(self.log_scale, run.cap)
        loss = contrastive_loss(unit(image), unit(words), scale, match)
        if run.teacher and len(self.outputs):
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
        shape = (2, self.run.teacher_batch)
        n = self.views.shape[1]
        one, other = (torch.from_numpy(i) for i in random.integers(n, size=shape))
        view = torch.from_numpy(random.integers(len(self.views), size=self.run.teacher_batch))
        part = torch.from_numpy(random.beta(0.5, 0.5, size=(shape[1], 1))).float()
        mixed = self.views[view, one] * part + self.views[0, other] * (1 - part)
        names = self.names if random.random() < 0.5 else self.bare_names
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            image, words = self.image_code(mixed), self.text_code(names.float())
        teacher = teacher_view(self.trunk, mixed, self.outputs)
        return teacher_loss(unit(image.float()), unit(words.float()), scale, teacher)

    @torch.no_grad()
    def _adapt(self, sample: Tensor, allowed: float) -> None:
        """A denser batch than allowed raises the pressure, a sparser one lowers it."""
        density = float((self.image_code(self.views[0, sample[:128]]) > 0).float().mean())
        self.pressure = max(1e-3, self.pressure * (1.12 if density > allowed else 0.9))

    def _text_vectors(self, encoder: SparseEncoder, texts: list[str]) -> Tensor:
        if not texts:
            return torch.zeros(0, encoder.text_trunk.width)
        return cached_texts(texts, encoder.text_trunk, self.run.text_trunk)

    @torch.no_grad()
    def export(self, encoder: SparseEncoder) -> None:
        """Copies the trained heads into the encoder, taking raw trunk outputs."""
        for own, head in (
            (self.image_head, encoder.image_head),
            (self.text_head, encoder.text_head),
        ):
            head.load_state_dict(own.state_dict())
            head.activation = own.activation
        encoder.image_head.fold_input_scale(self.mean, self.deviation)
        encoder.text_head.weight.mul_(self.text_scale)


def train_encoder(
    preset: str, data: Path, out: Path, settings: Mapping[str, Any] | None = None
) -> list[float]:
    """Trains PRESET's heads on the shards below `data`; writes config.json and the heads to `out`.

    Returns the loss of every step. A run that was stopped goes on from its last checkpoint.
    """
    run = encoder_run(preset, settings or {})
    out.mkdir(parents=True, exist_ok=True)
    encoder = SparseEncoder.build(run.encoder)
    images = cached_images(find_shards(data, *SHARDS), encoder.image_trunk, run.image_trunk)
    trainer = HeadTrainer(encoder, images, run)
    losses = fit(trainer, out)
    trainer.export(encoder)
    encoder.save_heads(out)
    config = {"name": out.name, "encoder": encoder.config_json(), "run": run.to_json()}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return losses


def fit(trainer: HeadTrainer, out: Path | None) -> list[float]:
    """All steps of the run, or what a checkpoint in `out` leaves of them."""
    run = trainer.run
    matrices = [p for n, p in trainer.named_parameters() if n.endswith("_head.weight")]
    rest = [p for n, p in trainer.named_parameters() if n.endswith(("bias", "log_scale"))]
    groups = [
        {"params": matrices, "weight_decay": run.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=run.lr, betas=(0.9, 0.98), fused=True)
    losses = _resume(trainer, optimiser, out) if out else []
    steps = trainer.steps
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
    return losses


def _checkpoint(trainer: HeadTrainer, optimiser: Any, losses: list[float], out: Path) -> None:
    heads = {n: p.detach() for n, p in trainer.named_parameters() if not n.startswith("trunk.")}
    state = {
        "losses": losses,
        "pressure": trainer.pressure,
        "heads": heads,
        "optimiser": optimiser.state_dict(),
    }
    save_checkpoint(out, trainer.run.to_json(), state)


def _resume(trainer: HeadTrainer, optimiser: Any, out: Path) -> list[float]:
    state = load_checkpoint(out, trainer.run.to_json())
    if state is None:
        return []
    trainer.load_state_dict(state["heads"], strict=False)
    optimiser.load_state_dict(state["optimiser"])
    trainer.pressure = state["pressure"]
    losses: list[float] = state["losses"]
    log.info("going on after step %d", len(losses))
    return losses
