"""Training a sparse autoencoder on dense codes that are already there."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from sparse_encoder.baselines.sae import Sae, SaeConfig, l1_loss, nested_loss, revival_loss
from sparse_encoder.errors import SparsightError

WARM_UP = 50  # steps to the full learning rate, as for the heads


def train_sae(rows: Callable[[Tensor], Tensor], n_rows: int, config: SaeConfig) -> Sae:
    """An autoencoder of the dense codes that `rows` gives.

    rows: (batch,) int64 in [0, n_rows) to dense codes (batch, width). They are made when they are
    asked for, so that a set of any size can be trained on. Raises SparsightError where the loss is
    no number.
    """
    if n_rows < 1:
        raise SparsightError("an autoencoder needs at least one dense code to train on")
    # Seeds of its own: the caller's random state is left as it was.
    generator = torch.Generator().manual_seed(config.seed)
    first = rows(torch.randint(n_rows, (max(config.batch, 4096),), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        sae = Sae(first.shape[1], config)
    sae.fit_scale(first)
    optimiser = torch.optim.Adam(sae.parameters(), lr=config.lr, betas=(0.9, 0.99), fused=True)
    idle = torch.zeros(config.features)  # steps since each feature was last active
    bar = tqdm(range(config.steps), desc=config.kind, unit="step", leave=False)
    for step in bar:
        warm = min(1.0, (step + 1) / WARM_UP)
        for group in optimiser.param_groups:
            group["lr"] = config.lr * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        x = rows(torch.randint(n_rows, (config.batch,), generator=generator)) * sae.scale
        loss = _loss(sae, x, idle)
        if not bool(loss.isfinite()):
            raise SparsightError(
                f"the loss is {float(loss.detach())} at step {step}; lower lr", param="lr"
            )
        optimiser.zero_grad()
        loss.backward()
        sae.drop_radial_gradient()
        optimiser.step()
        sae.normalise_decoder()
    return sae.eval().requires_grad_(False)


def _loss(sae: Sae, x: Tensor, idle: Tensor) -> Tensor:
    """The kind's loss; moves on the counts of `idle`."""
    config = sae.config
    pre_code = sae.pre_code(x)
    code = sae.activate(pre_code)
    active = (code > 0).any(0)
    idle += 1
    idle[active] = 0
    if config.kind == "relu_l1":
        return l1_loss(sae, x, code)
    loss = nested_loss(sae, x, code)
    dead = idle > config.dead_after
    if config.revival and bool(dead.any()):
        loss = loss + config.revival * revival_loss(sae, x, pre_code, code, dead)
    return loss
