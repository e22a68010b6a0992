"""Weights, gradients and moments shared out over the ranks (FSDP2, `torch.distributed.fsdp`).

Each rank keeps a part of every parameter, cut along the first axis. A trunk's blocks are gathered one
at a time, for their forward pass and again for their backward pass; a projection likewise. The loss
reads the heads' weights without calling the heads, so both are gathered around it, forward and
backward. The logit scale and the bias of the logits are whole on every rank.

accelerate's own FSDP is not used: on CPUs it does nothing, and it shards one model, where a step here
calls three modules.
"""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.config import PretrainRun
from sparse_encoder.pretrain.loss import SparseContrast
from sparse_encoder.pretrain.optimiser import adamw
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.vision import MiniImageTrunk

_OTHERS = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


class Shards:
    """The shared-out model of one rank, with its optimiser. Every method is called by all ranks."""

    def __init__(
        self, clip: SparseClip, contrast: SparseContrast, accelerator: Accelerator, run: PretrainRun
    ) -> None:
        """Cuts `clip` in place, and moves this rank's part to its device.

        contrast: of the same `clip`. All ranks hold the same weights before: the seed, or the
        checkpoint that the run starts from, sees to it.
        """
        _refuse_batch_norm(clip)
        self.clip = clip
        self.contrast: Any = contrast
        self.accelerator = accelerator
        self.kept_whole = _kept_whole(clip)
        # Trunks hand out views of their states, and nothing here writes to them in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        half = MixedPrecisionPolicy()
        if run.precision == "bf16":
            # Outputs as DDP gives them under accelerate; gradients are summed in fp32.
            half = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
        outer = MixedPrecisionPolicy(half.param_dtype, half.reduce_dtype, torch.float32)
        for group in trunk_groups(clip):
            policy = outer if group in _outermost(clip) else half
            fully_shard(group, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        for parameter in self.kept_whole:
            parameter.data = parameter.data.to(accelerator.device)
        # In fp32, or the loss's fp32 gradient of the heads would be rounded. Kept until its backward
        # pass, which comes next.
        fully_shard(
            contrast,
            mesh=mesh,
            reshard_after_forward=False,
            ignored_params=set(self.kept_whole),
        )
        clip.to(accelerator.device)  # what is in no group
        self.optimiser = adamw(clip, run, self.kept_whole)

    @contextmanager
    def no_sync(self, side: nn.Module) -> Iterator[None]:
        """The backward passes within add to whole gradients, which the next one outside shares out."""
        _sync(side, False)
        yield
        _sync(side, True)

    @contextmanager
    def whole_heads(self) -> Iterator[None]:
        """Within, the heads may be called by themselves, without a gradient."""
        self.contrast.unshard()
        yield
        self.contrast.reshard()

    def clip_gradients(self, limit: float) -> Tensor:
        """The norm of all gradients of all ranks, (), before they are cut down to `limit`.

        Gradients of parameters that are whole on each rank are averaged here, as FSDP does the rest.
        """
        for parameter in self.kept_whole:
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        trained = [p for p in self.clip.parameters() if p.grad is not None]
        parts = [[p for p in trained if isinstance(p, DTensor) == cut] for cut in (True, False)]
        parts = [part for part in parts if part]
        norms = [get_total_norm([p.grad for p in part if p.grad is not None]) for part in parts]
        whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
        total: Tensor = torch.linalg.vector_norm(torch.stack(whole))
        for part in parts:
            clip_grads_with_norm_(part, limit, total)
        return total

    def save(self, folder: Path) -> None:
        """Each rank writes its part of weights and moments; raises OSError where one cannot.

        Nothing is gathered, so that a model of any size can be saved. All ranks see one `folder`.
        """
        weights, moments = get_state_dict(self.clip, self.optimiser)
        try:
            save({"weights": weights, "moments": moments}, checkpoint_id=folder)
        except CheckpointException as error:  # no Exception, so it would pass by all that catches
            raise OSError(_first_failure(error)) from error

    def load(self, folder: Path) -> None:
        """Takes what as many ranks `save`d; raises SparsightError for a damaged folder."""
        weights, moments = get_state_dict(self.clip, self.optimiser)
        state: dict[str, Any] = {"weights": weights, "moments": moments}
        try:
            load(state, checkpoint_id=folder)
        except CheckpointException as error:
            raise SparsightError(
                f"{folder} is damaged ({_first_failure(error)}); delete the checkpoint that it is "
                "in, and run again"
            ) from error
        set_state_dict(
            self.clip,
            self.optimiser,
            model_state_dict=state["weights"],
            optim_state_dict=state["moments"],
        )

    def gathered(self) -> SparseClip | None:
        """The whole model as one of its own on the CPU of the main process, None on others."""
        everything = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.clip, options=everything)
        if not self.accelerator.is_main_process:
            return None
        image, text = self.clip.image_trunk, self.clip.text_trunk
        whole = SparseClip.build(
            self.clip.config, image.shape_json(), text.shape_json(), text.tokenizer
        )
        whole.load_state_dict(weights, assign=True)
        return whole


def trunk_groups(clip: SparseClip) -> list[nn.Module]:
    """What of trunks and projections is gathered at a time, inner modules before outer ones.

    A module takes in those of its parameters that none of the modules before it has.
    """
    groups: list[nn.Module] = []
    for trunk in (clip.image_trunk, clip.text_trunk):
        if not isinstance(trunk, MiniImageTrunk):
            groups += dict.fromkeys(_blocks(trunk))
            groups.append(trunk)
    groups += clip.image_projection, clip.text_projection
    return [group for group in groups if any(True for _ in group.parameters())]


def local_counts(clip: SparseClip, n_ranks: int) -> tuple[int, int]:
    """(trained, frozen) numbers that the first of `n_ranks` ranks keeps; no other keeps more."""
    whole = {id(p) for p in _kept_whole(clip)}
    counts = {True: 0, False: 0}
    for parameter in clip.parameters():
        n = parameter.numel()
        if id(parameter) not in whole:
            n = math.ceil(len(parameter) / n_ranks) * (n // len(parameter))
        counts[parameter.requires_grad] += n
    return counts[True], counts[False]


def check_launch(accelerator: Accelerator, run: PretrainRun) -> None:
    """Refuses to run in a way that would average, clip, save or export weights in parts."""
    refuse_foreign_shards(
        accelerator,
        "give --set shard=true: the trainer then shares weights, gradients and moments out itself",
    )
    if run.shard and accelerator.num_processes < 2:
        raise SparsightError(
            "shard=true shares the model out over processes, and this run has one; start more with "
            "accelerate launch or torchrun, or leave shard out",
            param="shard",
        )


def refuse_foreign_shards(accelerator: Accelerator, instead: str) -> None:
    """Raises SparsightError where accelerate was told to shard weights. instead: what to do."""
    kind = accelerator.distributed_type
    # On CPUs accelerate passes over --use_fsdp without a word.
    if kind in _OTHERS or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        raise SparsightError(
            f"this run was launched to shard weights by accelerate ({kind.value}); launch it without "
            f"--use_fsdp and --use_deepspeed, and {instead}. --dry-run prints what that takes",
            param="launch",
        )


def _kept_whole(clip: SparseClip) -> list[nn.Parameter]:
    """Parameters that every rank has whole: numbers, and the mini trunk, which is small and frozen."""
    numbers = [p for p in (clip.log_scale, clip.logit_bias) if p is not None]
    mini = isinstance(clip.image_trunk, MiniImageTrunk)
    return [*numbers, *(clip.image_trunk.parameters() if mini else ())]


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that a backbone repeats: members of its outermost module lists."""
    for child in module.children():
        if isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _blocks(child)


def _outermost(clip: SparseClip) -> tuple[nn.Module, ...]:
    return clip.image_trunk, clip.text_trunk, clip.image_projection, clip.text_projection


def _sync(side: nn.Module, on: bool) -> None:
    for module in side.modules():
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(on, recurse=False)


def _refuse_batch_norm(clip: SparseClip) -> None:
    for name, trunk in (("image", clip.image_trunk), ("text", clip.text_trunk)):
        if trunk.config.frozen or not any(isinstance(m, _BatchNorm) for m in trunk.modules()):
            continue
        raise SparsightError(
            f"the {name} trunk {trunk.config.backbone!r} has batch norms, whose averages would "
            "differ between ranks with shard=true; freeze it, take another, or leave shard out",
            param="shard",
        )


def _first_failure(error: CheckpointException) -> str:
    rank, (cause, _) = next(iter(error.failures.items()))
    return f"rank {rank}: {cause!r}"
