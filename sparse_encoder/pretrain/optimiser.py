"""The optimiser of a pretraining run: decay on matrices, warm-up and cosine, a moving average."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from sparse_encoder.pretrain.config import PretrainRun


def adamw(
    clip: nn.Module, run: PretrainRun, apart: Sequence[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """AdamW with decay on matrices alone, as in OpenCLIP; frozen parameters are left out.

    apart: parameters of `clip` that form a group of their own, without decay. One kernel updates a
    group, and it takes shards or whole tensors, not both.
    """
    others = {id(p) for p in apart}
    trained = [p for p in clip.parameters() if p.requires_grad and id(p) not in others]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": run.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if alone := [p for p in apart if p.requires_grad]:
        groups.append({"params": alone, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=run.lr, betas=(0.9, run.beta2), eps=run.eps)


def learning_rate(run: PretrainRun, step: int) -> float:
    """Linear warm-up, then a cosine to zero, as in OpenCLIP; `step` counts from 0."""
    if step < run.warmup:
        return run.lr * (step + 1) / run.warmup
    at = (step - run.warmup) / max(1, run.steps - run.warmup)
    return run.lr * 0.5 * (1 + math.cos(math.pi * at))


def moving_average(clip: nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel | None:
    """A copy of `clip` that follows its weights, None for a decay of 0."""
    if not decay:
        return None
    return torch.optim.swa_utils.AveragedModel(
        clip, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay), use_buffers=True
    )
