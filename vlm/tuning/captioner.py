"""Projector and language model with LoRA, as tuning runs them: rows in, one loss out."""

import inspect
from typing import Any

from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from vlm.packing import IGNORED, Batch
from vlm.projector import Projector
from vlm.tuning.config import LoraShape


class TunedCaptioner(nn.Module):
    """A frozen language model with LoRA, and the projector before it."""

    def __init__(
        self, llm: Any, projector: Projector, lora: LoraShape, *, empty: bool = False
    ) -> None:
        """empty: the model has no weights, for a plan; see `with_lora`."""
        super().__init__()
        self.llm: Any = with_lora(llm, lora, empty=empty)
        self.projector = projector
        parameters = inspect.signature(llm.forward).parameters
        self._keeps = "logits_to_keep" in parameters  # most, not all, give logits of some places

    @property
    def lora(self) -> list[nn.Parameter]:
        return [p for name, p in self.llm.named_parameters() if "lora_" in name]

    def trained(self, stage: int) -> list[nn.Parameter]:
        """Parameters that stage 0 or 1 moves, in a fixed order."""
        return [*self.projector.parameters(), *(self.lora if stage else [])]

    def set_stage(self, stage: int) -> None:
        """Stage 0 leaves LoRA at its start, where it changes nothing."""
        for parameter in self.lora:
            parameter.requires_grad_(bool(stage))

    def forward(self, codes: Codes | None, batch: Batch) -> Tensor:
        """Sum over answer tokens of the cross-entropy, (), in nats.

        codes: of the images whose soft tokens the rows have gaps for, in order; None for no image.
        """
        return self.loss_of(None if codes is None else self.projector(codes), batch)

    def loss_of(self, soft: Tensor | None, batch: Batch) -> Tensor:
        """The same from the soft tokens (images, tokens, hidden)."""
        base = self.llm.get_base_model()
        inputs = base.get_input_embeddings()(batch.token_ids)
        if soft is not None:
            inputs = inputs.masked_scatter(batch.soft[..., None], soft.to(inputs.dtype))
        # A plain mask, which every attention kernel takes, where nothing is branched.
        plain = (batch.branch >= 0).long()
        mask = batch.mask.to(inputs.dtype) if batch.has_branches else plain
        asked = batch.targets != IGNORED
        places = asked.any(0).nonzero()[:, 0]  # where some row is asked
        logits = base(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=batch.positions,
            use_cache=False,
            **({"logits_to_keep": places} if self._keeps else {}),
        ).logits
        asked, targets = asked[:, places], batch.targets[:, places]
        picked = logits[asked] if self._keeps else logits[:, places][asked]
        return functional.cross_entropy(picked.float(), targets[asked], reduction="sum")


def with_lora(llm: Any, shape: LoraShape, *, empty: bool = False) -> Any:
    """The model with fresh LoRA (of peft), which changes nothing yet.

    empty: for a model on the meta device, on which LoRA is put, too. Raises SparsightError, which lists the model's linear layers, where a target names none.
    """
    layers = linear_layers(llm)
    unknown = [t for t in shape.targets if t not in layers]
    if unknown or not layers:
        raise SparsightError(
            f"lora.targets={list(shape.targets)}: no linear layer of {type(llm).__name__} is named "
            f"{', '.join(unknown) or 'anything'}; it has {', '.join(layers)}",
            param="lora.targets",
        )
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,  # type: ignore[arg-type]  # peft takes any number
        target_modules=list(shape.targets or layers),
        lora_dropout=shape.dropout,
        use_dora=shape.dora,
        use_rslora=shape.rslora,
    )
    model = get_peft_model(llm, config, low_cpu_mem_usage=empty)
    if not any("lora_" in name for name, _ in model.named_parameters()):
        raise SparsightError(  # it would train, and then answer as, the plain model
            f"LoRA reached no layer of {type(llm).__name__}; it has {', '.join(layers)}",
            param="lora.targets",
        )
    return model


def linear_layers(llm: nn.Module) -> list[str]:
    """Last parts of the names of all linear layers but the output layer, in order."""
    output = getattr(llm, "get_output_embeddings", lambda: None)()
    names = (
        name.rpartition(".")[2]
        for name, module in llm.named_modules()
        if module is not output and (isinstance(module, nn.Linear) or _is_conv1d(module))
    )
    return list(dict.fromkeys(names))


def _is_conv1d(module: nn.Module) -> bool:
    """GPT-2's layers, which are linear by another name."""
    return type(module).__name__ == "Conv1D"
