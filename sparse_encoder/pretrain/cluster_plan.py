"""What a pretraining run will take, before it is started: parameters, memory a GPU, hours.

Nothing is allocated: the model is built of PyTorch's fake tensors, and one image and one text are
passed through it while the products are counted and what autograd would keep is added up. Both
grow with the micro-batch, so that one pair is enough. Attention is the fused kernel, as on a GPU.

    memory   16 bytes a trained parameter (fp32 weight, gradient, two moments of AdamW), 4 a frozen
             one, 4 for an average, 2 for autocast's copy; micro-batch x what autograd keeps of a
             pair; trunk outputs of all ranks; the loss's budget
    shard    the first two are shared out; then come whole gradients of the trunks, 4 bytes each,
             where micro-batches add up before ranks do, and what is gathered at a time
    compute  trunks 3 x forward, 4 x where micro-batches are run twice; the loss 4p + 3g with
             p = 2 W D (local + whole batch), g = 2 x local x whole batch x D (see chunked_loss.py)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from sparse_encoder.pretrain.code_chunks import DEFAULT_BUDGET
from sparse_encoder.pretrain.config import PretrainRun
from sparse_encoder.pretrain.sharding import local_counts, trunk_groups
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.text import Tokens


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter of floating-point operations, with the attention kernel that it forgets."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    on_cpu = {
        attention: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
        backward: lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4]),
    }
    return FlopCounterMode(display=False, custom_mapping=on_cpu)


@dataclass(frozen=True)
class Cluster:
    """The machines that a run would get."""

    gpus: int = 64
    tflops: float = 989.0  # a GPU's dense peak in the run's precision; an H100 in bf16
    utilisation: float = 0.35  # share of the peak that is reached; 0.3 to 0.5 is usual


@dataclass(frozen=True)
class Plan:
    """What the run takes. Bytes are of one GPU."""

    parameters: dict[str, int]
    bytes: dict[str, float]
    flops_per_step: float  # of one GPU
    steps: int
    hours: float

    @property
    def total_bytes(self) -> float:
        return sum(self.bytes.values())

    def table(self) -> str:
        rows = [(f"parameters, {name}", f"{n / 1e6:,.1f} M") for name, n in self.parameters.items()]
        rows += [(f"memory, {name}", f"{n / 2**30:,.2f} GiB") for name, n in self.bytes.items()]
        rows += [
            ("memory of a GPU, all", f"{self.total_bytes / 2**30:,.2f} GiB"),
            ("steps", f"{self.steps:,}"),
            ("TFLOP a step and GPU", f"{self.flops_per_step / 1e12:,.1f}"),
            ("hours", f"{self.hours:,.1f}"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {value:>14}" for name, value in rows)


def plan(run: PretrainRun, cluster: Cluster) -> Plan:
    """The plan of `run` on `cluster`; raises SparsightError where the batch cannot be shared."""
    local = run.local_batch(cluster.gpus)
    micro = min(run.micro_batch, local)
    flops, kept = 0.0, 0.0
    with FakeTensorMode():
        clip = SparseClip.build(run.model)
        for side, one in (
            (clip.image_trunk_output, _image(clip)),
            (clip.text_trunk_output, _text(clip)),
        ):
            forward, held = forward_cost(side, one)
            passes = 1 if held == 0 else 3 if micro == local else 4
            flops += forward * local * passes
            kept += held * micro * (1.0 if run.precision == "fp32" else 0.5)
    features, width = clip.image_head.weight.shape
    p = 2.0 * width * features * (local + run.batch)
    flops += 4 * p + 3 * 2.0 * local * run.batch * features
    counts = _parameters(clip)
    trained, frozen = local_counts(clip, cluster.gpus if run.shard else 1)
    average = 4.0 * counts["all"] if run.ema else 0.0
    copies = {"autocast's copies": 0.0 if run.precision == "fp32" else 2.0 * counts["all"]}
    memory = {
        "weights, gradients, moments": 16.0 * trained + 4.0 * frozen + average,
        **(_gathered(clip, run, micro < local) if run.shard else copies),
        "activations of a micro-batch": kept,
        "trunk outputs": 4.0 * width * (4 * local + run.batch),
        "loss": float(DEFAULT_BUDGET),
    }
    seconds = flops / (cluster.tflops * 1e12 * cluster.utilisation) * run.steps
    return Plan(counts, memory, flops, run.steps, seconds / 3600)


def _gathered(clip: SparseClip, run: PretrainRun, accumulated: bool) -> dict[str, float]:
    """Bytes of the others' parts that a rank holds, too: of the heads in the loss, else of a trunk.

    Weights, gradients, and the fp32 copy of these that is summed over ranks. Of a trunk two blocks,
    for the next is fetched early, and what is in no block: the three largest groups, at most.
    """
    value = 4.0 if run.precision == "fp32" else 2.0
    seen: set[int] = set()
    sizes, trained = [], 0
    for group in trunk_groups(clip):
        own = [p for p in group.parameters() if id(p) not in seen]
        seen |= {id(p) for p in own}
        sizes.append(sum(p.numel() for p in own))
        trained += sum(p.numel() for p in own if p.requires_grad)
    heads = sum(p.numel() for head in (clip.image_head, clip.text_head) for p in head.parameters())
    return {
        "whole gradients between micro-batches": 4.0 * trained if accumulated else 0.0,
        "gathered at a time": max(12.0 * heads, (2 * value + 4.0) * sum(sorted(sizes)[-3:])),
    }


def forward_cost(side: Callable[[Any], Tensor], one: Any) -> tuple[float, float]:
    """(floating-point operations, bytes that autograd keeps) of a forward pass, weights left out."""
    kept: dict[int, torch.UntypedStorage] = {}  # each held, since an address is used again

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(base, nn.Parameter) and not tensor.is_leaf:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    with (
        flop_counter() as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        side(one)
    return float(counter.get_total_flops()), float(sum(s.nbytes() for s in kept.values()))


def _image(clip: SparseClip) -> Tensor:
    size = clip.config.image.size
    return torch.empty(1, 3, size, size)


def _text(clip: SparseClip) -> Tokens:
    shape = (1, clip.config.text.max_tokens)
    return Tokens(*(torch.ones(shape, dtype=torch.int64) for _ in range(2)))


def _parameters(clip: SparseClip) -> dict[str, int]:
    groups = {
        "image trunk": (clip.image_trunk, clip.image_projection),
        "text trunk": (clip.text_trunk, clip.text_projection),
        "heads": (clip.image_head, clip.text_head),
    }
    counts = {
        name: sum(p.numel() for part in parts for p in part.parameters())
        for name, parts in groups.items()
    }
    return {**counts, "all": sum(p.numel() for p in clip.parameters())}
