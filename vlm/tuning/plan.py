"""What a tuning run will take, before it is started: parameters, memory a GPU, hours.

Nothing is allocated: one and two blocks of the language model are built of PyTorch's fake tensors in
their real shape, and one row passes them forward and backward while the products are counted and what
autograd keeps is added up. Every further block costs what the second does.

    memory   the frozen model in the run's precision, the encoder in fp32; 16 bytes a trained parameter
             (fp32 weight, gradient, two moments of AdamW); micro-batch x what autograd keeps of a row
    compute  trunk and head of the encoder once; the language model forward, and backward for the
             activations and LoRA alone, once more forward where it is checkpointed; the projector's
             first layer on active features only
"""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from sparse_encoder.any_encoder import AnyEncoder, load_encoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.parts import ensure_part
from sparse_encoder.pretrain.cluster_plan import Cluster, flop_counter
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.photo_encoder import PhotoEncoder
from sparse_encoder.towers.presets import tower_preset
from vlm.any_llm import load_any
from vlm.language_model import TINY, tiny_language_model
from vlm.llm_part import LLM_PART
from vlm.projector import Projector
from vlm.tuning.captioner import TunedCaptioner
from vlm.tuning.config import TuneRun
from vlm.tuning.model_writer import encoder_folder
from vlm.tuning.schedule import Schedule
from vlm.tuning.shapes import projector_shape

# Shapes of models behind a licence click, so that a plan needs no network.
_SHAPES: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.1-8B-Instruct": {
        "vocab_size": 128_256,
        "hidden_size": 4_096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": False,
    }
}


@dataclass(frozen=True)
class RowShape:
    """The rows that a plan reckons with; a run's own are told by its reports."""

    text_tokens: int = 128  # of a sample, question and answer and template
    answer_tokens: int = 64  # of them
    density: float = 0.05  # share of features that are active in a code


@dataclass(frozen=True)
class TunePlan:
    """What the run takes. Bytes are of one GPU, in stage 2, which takes the most."""

    parameters: dict[str, int]
    bytes: dict[str, float]
    flops_per_step: tuple[float, float]  # of one GPU, in each stage
    steps: tuple[int, int]
    hours: float
    row: RowShape = field(default_factory=RowShape)
    n_soft: int = 0

    @property
    def total_bytes(self) -> float:
        return sum(self.bytes.values())

    def table(self) -> str:
        rows = [(f"parameters, {name}", f"{n / 1e6:,.2f} M") for name, n in self.parameters.items()]
        rows += [(f"memory, {name}", f"{n / 2**30:,.3f} GiB") for name, n in self.bytes.items()]
        rows += [
            ("memory of a GPU, all", f"{self.total_bytes / 2**30:,.2f} GiB"),
            ("soft tokens an image", f"{self.n_soft}"),
            ("text tokens a sample, assumed", f"{self.row.text_tokens}"),
            ("answer tokens among them, assumed", f"{self.row.answer_tokens}"),
            ("density of the codes, assumed", f"{100 * self.row.density:g} %"),
        ]
        for number, (flops, steps) in enumerate(zip(self.flops_per_step, self.steps, strict=True)):
            rows.append((f"stage {number + 1}, steps", f"{steps:,}"))
            rows.append((f"stage {number + 1}, TFLOP a step and GPU", f"{flops / 1e12:,.4f}"))
        rows.append(("hours", f"{self.hours:,.2f}"))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {value:>14}" for name, value in rows)


def tune_plan(
    run: TuneRun,
    cluster: Cluster,
    row: RowShape = RowShape(),
    *,
    encoder: Path | None = None,
    n_conversations: int = 0,
    has_captions: bool = True,
) -> TunePlan:
    """The plan of `run` on `cluster`, one image a sample.

    encoder: its folder; without, the tower preset of the run. n_conversations, has_captions: what the
    data holds. Raises SparsightError where the batch cannot be shared.
    """
    if not 0 < row.answer_tokens < row.text_tokens:
        raise SparsightError(
            f"{row.text_tokens} text tokens of which {row.answer_tokens} are of the answer: expected "
            "at least one of the answer and one of the question",
            param="text_tokens",
        )
    schedule = Schedule(run, n_conversations, has_captions)
    schedule.mix(0, cluster.gpus)
    schedule.mix(schedule.steps - 1, cluster.gpus)
    half = 0.5 if run.precision != "fp32" else 1.0
    coder = None if encoder is None and run.encoder else load_encoder(encoder_folder(encoder, ""))
    with FakeTensorMode(allow_non_fake_inputs=True):
        coder = coder or PhotoEncoder(SparseClip.build(tower_preset(run.encoder)))
        image_flops = _image_flops(coder)
    features, grid = coder.config.features, coder.grid
    # On the meta device first, since peft cannot put LoRA on a model of fake tensors.
    with torch.device("meta"):
        llm = _language_model(run)
        shape = projector_shape(coder, llm, run)
        captioner = TunedCaptioner(llm, Projector(shape), run.lora, empty=True).train()
    one, two = (_row_cost(_shallow(llm.config, n), captioner, run, row) for n in (1, 2))
    more = llm.config.num_hidden_layers - 1  # blocks after the first, each like the second
    flops = [a + more * (b - a) for a, b in zip(one.flops, two.flops, strict=True)]
    bytes_a_row = one.kept + more * (two.kept - one.kept)
    active = row.density * features * (1 + grid[0] * grid[1])
    # First layer: forward, and the gradient of its rows, for nothing flows to the codes. Second
    # layer: forward and both gradients.
    projector = 2 * 2 * active * shape.hidden + 3 * 2 * shape.n_tokens * shape.hidden**2
    bytes_a_row += 2 * 4.0 * shape.n_tokens * shape.hidden
    per_sample = [f + projector + image_flops for f in flops]
    locals_ = [s.batch // cluster.gpus for s in run.stages]
    step_flops = (per_sample[0] * locals_[0], per_sample[1] * locals_[1])
    trained = {
        "projector": _count(captioner.projector),
        "LoRA": sum(p.numel() for p in captioner.lora),
    }
    frozen = _count(captioner.llm) - trained["LoRA"]
    counts = {
        "encoder": _count(coder),
        "language model": frozen,
        **trained,
        "trained": sum(trained.values()),
        "all": _count(coder) + frozen + sum(trained.values()),
    }
    memory = {
        "language model": 4.0 * half * frozen,
        "encoder": 4.0 * counts["encoder"],
        "weights, gradients, moments": 16.0 * counts["trained"],
        "activations of a micro-batch": bytes_a_row * half * min(run.micro_batch, max(locals_)),
        "code of an image": 4.0 * features * (1 + grid[0] * grid[1]),
    }
    work = sum(f * n for f, n in zip(step_flops, schedule.stage_steps, strict=True))
    hours = work / (cluster.tflops * 1e12 * cluster.utilisation) / 3600
    return TunePlan(counts, memory, step_flops, schedule.stage_steps, hours, row, shape.n_tokens)


@dataclass(frozen=True)
class _Cost:
    """Of one row behind the projector."""

    flops: tuple[float, float]  # forward and backward, in each stage
    kept: float  # bytes that autograd keeps in stage 2, weights left out


def _row_cost(
    shape: PretrainedConfig, captioner: TunedCaptioner, run: TuneRun, row: RowShape
) -> _Cost:
    """shape: of the language model, cut short. captioner: the whole one, for its projector."""
    length = captioner.projector.config.n_tokens + row.text_tokens
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(shape, attn_implementation="sdpa")
        part = TunedCaptioner(llm, captioner.projector, run.lora, empty=True).train()
    with FakeTensorMode():
        _make_fake(part.llm)
        (first, _), (second, kept) = (_pass(part, n, length, row.answer_tokens) for n in (0, 1))
        if run.checkpointing:
            part.llm.gradient_checkpointing_enable({"use_reentrant": False})
            (first, _), (second, between) = (
                _pass(part, n, length, row.answer_tokens) for n in (0, 1)
            )
            n_blocks = shape.num_hidden_layers
            inputs = 4.0 * length * llm.config.hidden_size
            # The inputs of all blocks, and what one keeps while it is run again.
            kept = between + n_blocks * inputs + (kept - between) / n_blocks
    return _Cost((first, second), kept)


def _pass(
    captioner: TunedCaptioner, stage: int, length: int, n_answer_tokens: int
) -> tuple[float, float]:
    """(floating-point operations, bytes that autograd keeps) of one row, forward and backward."""
    captioner.set_stage(stage)
    base = captioner.llm.get_base_model()
    inputs = torch.zeros(1, length, base.config.hidden_size, requires_grad=True)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        whole = tensor if tensor._base is None else tensor._base
        if not isinstance(whole, nn.Parameter) and not tensor.is_leaf:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    with flop_counter() as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            # As `TunedCaptioner.loss_of`, whose look-ups by value a fake tensor cannot answer.
            logits = base(
                inputs_embeds=inputs,
                position_ids=torch.arange(length)[None],
                use_cache=False,
                logits_to_keep=n_answer_tokens,
            ).logits[0]
            targets = torch.zeros(n_answer_tokens, dtype=torch.int64)
            loss = functional.cross_entropy(logits.float(), targets, reduction="sum")
        held = float(sum(s.nbytes() for s in kept.values()))
        loss.backward()
    return float(counter.get_total_flops()), held


def _shallow(shape: PretrainedConfig, n_blocks: int) -> PretrainedConfig:
    """The same language model with fewer blocks."""
    cut = deepcopy(shape)
    cut.num_hidden_layers = n_blocks
    if getattr(cut, "layer_types", None):
        cut.layer_types = cut.layer_types[:n_blocks]
    return cut


def _make_fake(model: nn.Module) -> None:
    """Puts fake tensors on the CPU in place of all on the meta device; tied ones stay tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for kind in (module._parameters, module._buffers):
            for name, old in kind.items():
                if old is None:
                    continue
                if id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    parameter = isinstance(old, nn.Parameter)
                    made[id(old)] = nn.Parameter(new, old.requires_grad) if parameter else new
                kind[name] = made[id(old)]


def _language_model(run: TuneRun) -> Any:
    """The model in its shape, of whatever tensors are being made."""
    if run.llm == TINY:
        return tiny_language_model()
    if run.llm in _SHAPES:
        shape = LlamaConfig(**_SHAPES[run.llm])
        return AutoModelForCausalLM.from_config(shape, attn_implementation="sdpa")
    source = str(ensure_part(LLM_PART)) if run.llm == LLM_PART.name else run.llm
    return load_any(source, "sdpa", torch.float32, with_weights=False)


def _image_flops(encoder: AnyEncoder) -> float:
    """Floating-point operations of one photograph: trunk, and head over all cells."""
    with flop_counter() as counter, torch.no_grad():
        if isinstance(encoder, PhotoEncoder):
            size = encoder.clip.image_trunk.size
            states = encoder.clip.image_states(torch.zeros(1, 3, size, size))
            encoder.image_head(torch.cat([states.pooled, states.patches[0]]))
        else:
            pixels = encoder.preprocess(Image.new("RGB", (64, 64)))
            encoder.image_head(encoder.image_trunk(pixels[None])[0])
    return float(counter.get_total_flops())


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
