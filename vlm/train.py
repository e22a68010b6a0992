"""Training the captioner: stage 1 the projector, stage 2 the projector and LoRA (arXiv 2601.20075).

The paper tunes the whole language model; LoRA is our choice. The loss is on answers only. Draws
depend on (seed, step), so a run that was killed goes on with the same numbers, and processes, which
share the rows of each step and sum their gradients, learn what one would.
"""

import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from sparse_encoder.checkpoint import load_checkpoint, save_checkpoint
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.precision import bf16_is_fast
from vlm.language_model import load_language_model
from vlm.packing import IGNORED, Row, pack
from vlm.projector import Projector, ProjectorConfig
from vlm.step_rows import Drawn, Share, draws
from vlm.train_config import VlmRun
from vlm.training_rows import RowMaker
from vlm.tuning.captioner import with_lora
from vlm.tuning.config import LoraShape
from vlm.tuning.ranks import begin_alike, sum_gradients

log = logging.getLogger(__name__)
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SAVE_EVERY = 180.0  # seconds between checkpoints


class Captioner:
    """Projector and language model with LoRA, as they are trained together."""

    def __init__(
        self,
        run: VlmRun,
        features: int,
        grid: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        torch.manual_seed(run.seed)
        model, self.tokenizer = load_language_model(run.llm, attention="eager")
        self.device = torch.device(device)
        quick = self.device.type == "cuda" or bf16_is_fast()
        self.bf16 = run.precision == "bf16" or (run.precision == "auto" and quick)
        if self.bf16:
            model = model.to(torch.bfloat16)
        lora = LoraShape(run.rank, 2 * run.rank, LORA_TARGETS)
        self.model: Any = with_lora(model, lora).to(self.device)
        self.projector = Projector(
            ProjectorConfig(features, model.config.hidden_size, grid, run.groups, run.removal)
        ).to(self.device)

    @property
    def lora(self) -> list[torch.nn.Parameter]:
        return [p for name, p in self.model.named_parameters() if "lora_" in name]

    def loss(self, rows: list[Row]) -> Tensor:
        """Sum over answer tokens of the cross-entropy, in nats."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            soft = self._soft([row.codes for row in rows])
            batch = pack(rows, [len(s) for s in soft]).to(self.device)
            base = self.model.base_model.model
            inputs = base.get_input_embeddings()(batch.token_ids)
            inputs = inputs.masked_scatter(batch.soft[..., None], torch.cat(soft).to(inputs.dtype))
            states = base.model(
                inputs_embeds=inputs,
                attention_mask=batch.mask.to(inputs.dtype),
                position_ids=batch.positions,
                use_cache=False,
            ).last_hidden_state
            asked = batch.targets != IGNORED
            logits = base.lm_head(states[asked])  # (answer tokens, vocabulary)
        return torch.nn.functional.cross_entropy(
            logits.float(), batch.targets[asked], reduction="sum"
        )

    def _soft(self, codes: list[Codes]) -> list[Tensor]:
        """Soft tokens (tokens, hidden) of each code; those with cells pass together, as do those without."""
        out: dict[int, Tensor] = {}
        for grid in {c.grid for c in codes}:
            here = [i for i, c in enumerate(codes) if c.grid == grid]
            together = Codes.cat([codes[i] for i in here]).to(self.device)
            tokens = self.projector(replace(together, index=together.index.long()))
            out.update(zip(here, tokens, strict=True))
        return [out[i] for i in range(len(codes))]

    def save(self, folder: Path) -> None:
        """Projector and adapter in fp16, in the layout of a model folder."""
        state = {k: v.half().contiguous() for k, v in self.projector.state_dict().items()}
        save_file(state, folder / "projector.safetensors")
        adapter = folder / "adapter"
        adapter.mkdir(exist_ok=True)
        self.model.peft_config["default"].base_model_name_or_path = None  # no path of ours
        self.model.peft_config["default"].inference_mode = True
        self.model.peft_config["default"].save_pretrained(adapter)
        lora = get_peft_model_state_dict(self.model)
        save_file(
            {k: v.half().contiguous() for k, v in lora.items()},
            adapter / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )


def train(
    captioner: Captioner, maker: RowMaker, run: VlmRun, out: Path, accelerator: Accelerator
) -> list[float]:
    """Runs all steps (or what is left of them); the loss of each step, in nats an answer token.

    Every process of the accelerator calls it; the main one alone writes.
    """
    optimiser = torch.optim.AdamW(
        [
            {"params": list(captioner.projector.parameters()), "lr": run.lr_projector},
            {"params": captioner.lora, "lr": run.lr_lora},
        ],
        betas=(0.9, 0.98),
        weight_decay=run.weight_decay,
        fused=True,
    )
    begin_alike([*captioner.projector.parameters(), *captioner.lora])
    losses = _resume(captioner, optimiser, run, out)
    _refuse_unlike_starts(len(losses), accelerator, out)
    main = accelerator.is_main_process
    share = Share(accelerator.process_index, accelerator.num_processes)
    saved = time.monotonic()
    rows = draws(maker, run, range(len(losses), run.steps), captioner.device.type, share)
    bar = tqdm(rows, initial=len(losses), total=run.steps, unit="step", disable=not main)
    for step, drawn in enumerate(bar, start=len(losses)):
        tuned = step >= run.stage1 * run.steps
        rates = (
            run.lr_projector * _schedule(step, run.steps, 0),
            run.lr_lora * _schedule(step, run.steps, int(run.stage1 * run.steps)),
        )
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate
        for p in captioner.lora:
            p.requires_grad_(tuned)
        losses.append(_step(captioner, optimiser, drawn, accelerator))
        recent = losses[-50:]
        bar.set_postfix(loss=f"{sum(recent) / len(recent):.3f}")
        if main and (time.monotonic() - saved > SAVE_EVERY or step + 1 == run.steps):
            _checkpoint(captioner, optimiser, run, losses, out)
            saved = time.monotonic()
    if main:
        captioner.save(out)
    return losses


def _step(captioner: Captioner, optimiser: Any, drawn: Drawn, accelerator: Accelerator) -> float:
    """One update; the loss over the rows of all processes."""
    here = torch.zeros((), device=captioner.device)
    for rows in drawn.groups:  # rows of like length together: less padding
        loss = captioner.loss(rows) / drawn.n_answer_tokens
        loss.backward()
        here += loss.detach()
    total = float(accelerator.reduce(here, "sum"))
    if not math.isfinite(total):
        raise SparsightError("the loss is no longer finite; lower the learning rate and run again")
    trained = [p for g in optimiser.param_groups for p in g["params"] if p.requires_grad]
    sum_gradients(trained, accelerator)
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return total


def _refuse_unlike_starts(step: int, accelerator: Accelerator, out: Path) -> None:
    """A process that does not see the others' checkpoint would train on by itself."""
    here = torch.tensor([step], device=accelerator.device)
    steps = accelerator.gather(here).tolist()
    if len(set(steps)) > 1:
        raise SparsightError(
            f"the processes found checkpoints of different steps in {out} ({steps}, in order of "
            "processes); give an --out that all of them share",
            param="out",
        )


def _schedule(step: int, steps: int, start: int) -> float:
    """Warm-up over 3 % of the run, then a cosine to a twentieth."""
    if step < start:
        return 0.0
    at = (step - start) / max(1, steps - start)
    warm = min(1.0, (step - start + 1) / max(1.0, 0.03 * steps))
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * at)))


def _checkpoint(
    captioner: Captioner, optimiser: Any, run: VlmRun, losses: list[float], out: Path
) -> None:
    """Everything that the next step depends on."""
    state = {
        "losses": losses,
        "projector": captioner.projector.state_dict(),
        "lora": get_peft_model_state_dict(captioner.model),
        "optimiser": optimiser.state_dict(),
    }
    save_checkpoint(out, run.to_json(), state)


def _resume(captioner: Captioner, optimiser: Any, run: VlmRun, out: Path) -> list[float]:
    state = load_checkpoint(out, run.to_json())
    if state is None:
        return []
    captioner.projector.load_state_dict(state["projector"])
    set_peft_model_state_dict(captioner.model, state["lora"])
    optimiser.load_state_dict(state["optimiser"])
    losses: list[float] = state["losses"]
    log.info("going on after step %d", len(losses))
    return losses
