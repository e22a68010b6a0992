"""Training the captioner: stage 1 the projector, stage 2 the projector and LoRA (arXiv 2601.20075).

The paper tunes the whole language model; LoRA is our choice. The loss is on answers only. Draws
depend on (seed, step), so a run that was killed goes on with the same numbers.
"""

import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from sparse_encoder.checkpoint import load_checkpoint, save_checkpoint
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.precision import bf16_is_fast
from vlm.language_model import load_language_model
from vlm.packing import IGNORED, Branch, Row, pack
from vlm.projector import Projector, ProjectorConfig
from vlm.train_config import VlmRun
from vlm.training_rows import RowMaker
from vlm.tuning.captioner import with_lora
from vlm.tuning.config import LoraShape

log = logging.getLogger(__name__)
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Tokens a forward pass: more is not faster on two cores; a GPU wants large passes.
GROUP_TOKENS = {"cpu": 1200, "cuda": 12_000}
SAVE_EVERY = 180.0  # seconds between checkpoints


class Captioner:
    """Projector and language model with LoRA, as they are trained together."""

    def __init__(self, run: VlmRun, features: int, grid: tuple[int, int]) -> None:
        torch.manual_seed(run.seed)
        model, self.tokenizer = load_language_model(run.llm, attention="eager")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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


def train(captioner: Captioner, maker: RowMaker, run: VlmRun, out: Path) -> list[float]:
    """Runs all steps (or what is left of them); the loss of each step, in nats an answer token."""
    optimiser = torch.optim.AdamW(
        [
            {"params": list(captioner.projector.parameters()), "lr": run.lr_projector},
            {"params": captioner.lora, "lr": run.lr_lora},
        ],
        betas=(0.9, 0.98),
        weight_decay=run.weight_decay,
        fused=True,
    )
    peaks = (run.lr_projector, run.lr_lora)
    losses = _resume(captioner, optimiser, run, out)
    saved = time.monotonic()
    draws = _draws(maker, run, range(len(losses), run.steps), captioner.device.type)
    bar = tqdm(draws, initial=len(losses), total=run.steps, unit="step")
    for step, groups in enumerate(bar, start=len(losses)):
        tuned = step >= run.stage1 * run.steps
        for group, peak, share in zip(
            optimiser.param_groups,
            peaks,
            (
                _schedule(step, run.steps, 0),
                _schedule(step, run.steps, int(run.stage1 * run.steps)),
            ),
            strict=True,
        ):
            group["lr"] = peak * share
        for p in captioner.lora:
            p.requires_grad_(tuned)
        losses.append(_step(captioner, optimiser, groups))
        recent = losses[-50:]
        bar.set_postfix(loss=f"{sum(recent) / len(recent):.3f}")
        if time.monotonic() - saved > SAVE_EVERY or step + 1 == run.steps:
            _checkpoint(captioner, optimiser, run, losses, out)
            saved = time.monotonic()
    captioner.save(out)
    return losses


def _step(captioner: Captioner, optimiser: Any, groups: list[list[Row]]) -> float:
    n_tokens = sum(row.n_answer_tokens for rows in groups for row in rows)
    total = 0.0
    for rows in groups:  # rows of like length together: less padding
        loss = captioner.loss(rows) / n_tokens
        loss.backward()
        total += float(loss.detach())
    if not math.isfinite(total):
        raise SparsightError("the loss is no longer finite; lower the learning rate and run again")
    trained = [p for g in optimiser.param_groups for p in g["params"] if p.grad is not None]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return total


class _Sent(NamedTuple):
    """A row on its way from another process: arrays, which go as bytes, where each tensor takes a file handle."""

    codes: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # index, value, offset
    n_features: int
    grid: tuple[int, int]
    before: tuple[int, ...]
    after: tuple[int, ...]
    branches: tuple[Branch, ...]

    @classmethod
    def of(cls, row: Row) -> "_Sent":
        """With features in as few bytes as hold them: a photograph's code has 200,000 entries."""
        codes = row.codes
        small = torch.int16 if codes.n_features <= 2**15 else torch.int32
        arrays = codes.index.to(small).numpy(), codes.value.numpy(), codes.offset.numpy()
        return cls(arrays, codes.n_features, codes.grid, row.before, row.after, row.branches)

    def row(self) -> Row:
        index, value, offset = (torch.from_numpy(array) for array in self.codes)
        codes = Codes(index, value, offset, self.n_features, self.grid)
        return Row(codes, self.before, self.after, self.branches)


class _Steps(Dataset[list[list[_Sent]]]):
    """The rows of each step."""

    def __init__(self, maker: RowMaker, run: VlmRun, tokens: int) -> None:
        self.maker, self.run, self.tokens = maker, run, tokens

    def __getitem__(self, step: int) -> list[list[_Sent]]:
        groups = _draw(self.maker, self.run, step, self.tokens)
        return [[_Sent.of(row) for row in rows] for rows in groups]


def _draws(maker: RowMaker, run: VlmRun, steps: range, device: str) -> Iterator[list[list[Row]]]:
    """The rows of each step in turn; on a GPU, which would wait for them, made ahead in processes.

    A draw depends on (seed, step) alone, so the processes change nothing but the time.
    """
    tokens = GROUP_TOKENS[device]
    if device == "cpu":
        yield from (_draw(maker, run, step, tokens) for step in steps)
        return
    loader = DataLoader(
        _Steps(maker, run, tokens),
        sampler=steps,
        batch_size=None,
        num_workers=max(1, min(16, len(os.sched_getaffinity(0)) - 1)),
        prefetch_factor=4,
        collate_fn=_as_it_is,
        multiprocessing_context="fork",  # the caches and the encoder are shared, not copied
    )
    for groups in loader:
        yield [[sent.row() for sent in rows] for rows in groups]


def _as_it_is(rows: Any) -> Any:
    return rows


def _draw(maker: RowMaker, run: VlmRun, step: int, tokens: int) -> list[list[Row]]:
    """The rows of one step, in groups of like length."""
    random = np.random.default_rng((run.seed, step))
    rows: list[Row] = []
    if run.text_rows:
        picks = random.integers(len(maker.captions), size=run.text_rows)
        rows += [maker.text_row(int(i), random) for i in picks]
    for kind, n in (("label", run.label_rows), ("caption", run.caption_rows), ("qa", run.qa_rows)):
        pool = maker.by_kind[kind]
        if pool:
            picks = random.integers(len(pool), size=n)
            rows += [maker.image_row(pool[int(i)], random) for i in picks]
    return grouped(rows, tokens)


def grouped(rows: list[Row], tokens: int = GROUP_TOKENS["cpu"]) -> list[list[Row]]:
    """Rows sorted by length and cut into groups of about `tokens` tokens: little is padding."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=lambda r: r.n_text_tokens):
        if not groups or row.n_text_tokens * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(row)
    return groups


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
