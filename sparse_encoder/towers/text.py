"""Text trunks: CLIP's transformer, a sentence encoder, or a causal language model.

LLM2CLIP (arXiv 2411.04997) puts a language model, tuned on pairs of captions, in the text tower's
place. Its released models average over the tokens of a Llama that code of their own makes
bidirectional; that code is not run here, so such a folder is read as the causal model that it was.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, CLIPTextModel, PretrainedConfig

from sparse_encoder.errors import SparsightError
from sparse_encoder.mini_parts import TEXT_TRUNK_PART
from sparse_encoder.parts import ensure_part
from sparse_encoder.towers.backbone import build_backbone, check_reads, shape_to_json
from sparse_encoder.towers.config import MINI_TEXT_TRUNK, TEXT_FAMILIES, TextTowerConfig
from sparse_encoder.towers.tokenizer import load_tokenizer


class Tokens(NamedTuple):
    """Texts as a trunk takes them, padded on the right."""

    ids: Tensor  # (batch, tokens), int64
    mask: Tensor  # (batch, tokens), int64: 1 for a real token, 0 for padding


class TextStates(NamedTuple):
    """Last hidden states of texts, after the trunk's last norm."""

    pooled: Tensor  # (batch, width)
    tokens: Tensor  # (batch, tokens, width)


class TextTrunk(nn.Module):
    """A text backbone of transformers with its tokenizer; trains unless its config says frozen."""

    def __init__(self, config: TextTowerConfig, model: Any, tokenizer: Any) -> None:
        """model, tokenizer: of transformers."""
        super().__init__()
        check_reads(model, "input_ids", "text")
        self.config = config
        self.tokenizer = tokenizer
        self.tokenizer.padding_side = "right"  # absolute positions count from the first word
        shape = model.config
        if getattr(shape, "is_encoder_decoder", False):
            model = model.get_encoder()
        self.model = model
        # Unused here, and a parameter without gradient is refused by DDP.
        if hasattr(getattr(model, "pooler", None), "dense"):
            self.model.pooler = None
        self.model.config.use_cache = False  # a cache of keys is for writing, not for reading
        _check_fit(config, shape, tokenizer)
        self.freeze()

    def freeze(self) -> None:
        """Takes the gradient from all parameters where the config says that they are frozen."""
        if self.config.frozen:
            self.requires_grad_(False).eval()

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    def shape_json(self) -> dict[str, Any]:
        """What `build_text_trunk` makes an equal trunk from, but for weights and tokenizer."""
        return shape_to_json(self.model.config)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Texts as tokens on the CPU, padded to the longest, cut at ``max_tokens``.

        Raises SparsightError for a text without a token: it would have no vector.
        """
        batch = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.config.max_tokens,
            return_tensors="pt",
        )
        tokens = Tokens(batch["input_ids"].long(), batch["attention_mask"].long())
        empty = [i for i, n in enumerate(tokens.mask.sum(1).tolist()) if not n]
        if empty:
            raise SparsightError(
                f"text {empty[0]} of {len(texts)} has no token: {texts[empty[0]]!r}; leave out "
                "empty texts",
                param="texts",
            )
        return tokens

    def word_mask(self, tokens: Tokens) -> Tensor:
        """(batch, tokens), bool: real tokens but the start mark, which has seen no word."""
        mask: Tensor = tokens.mask.bool()
        start = self.tokenizer.bos_token_id
        return mask if start is None else mask & (tokens.ids != start)

    def forward(self, tokens: Tokens) -> TextStates:
        """States of a batch of texts."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            # CLIP reads left to right and is padded on the right, so that no real token sees
            # padding; without a mask attention is faster and a GPU is not waited for.
            mask = None if isinstance(self.model, CLIPTextModel) else tokens.mask
            output = self.model(input_ids=tokens.ids, attention_mask=mask)
            states: Tensor = output.last_hidden_state
            pool = _mean if self.config.pool == "mean" else _last
            return TextStates(pool(states, tokens.mask), states)

    def train(self, mode: bool = True) -> "TextTrunk":
        """A frozen trunk stays in eval mode: no dropout."""
        return super().train(mode and not self.config.frozen)


def build_text_trunk(
    config: TextTowerConfig, shape: dict[str, Any] | None = None, tokenizer: Any = None
) -> TextTrunk:
    """The trunk that `config` asks for.

    shape, tokenizer: what a saved model holds. Then nothing is fetched and the weights are left to
    be loaded. Raises BackboneError or SparsightError where backbone or tokenizer cannot be had.
    """
    name = config.backbone
    if name == MINI_TEXT_TRUNK and shape is None:
        name = str(ensure_part(TEXT_TRUNK_PART))
    if tokenizer is None:
        tokenizer = load_tokenizer(config.tokenizer or name)
    is_family = shape is None and config.backbone in TEXT_FAMILIES
    family = _clip_shape(config, tokenizer) if is_family else None
    model = build_backbone(name, "text", saved=shape, family=family, with_weights=config.pretrained)
    return TextTrunk(config, model, tokenizer)


def _clip_shape(config: TextTowerConfig, tokenizer: Any) -> PretrainedConfig:
    shape: PretrainedConfig = AutoConfig.for_model(
        "clip_text_model",
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=round(config.width * config.mlp_ratio),
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=config.max_tokens,
        hidden_act=config.gelu,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return shape


def _check_fit(config: TextTowerConfig, shape: Any, tokenizer: Any) -> None:
    """Refuses a tokenizer or a length that the backbone would index out of bounds with."""
    if len(tokenizer) > shape.vocab_size:
        raise SparsightError(
            f"the tokenizer has {len(tokenizer)} tokens, the text backbone {config.backbone!r} "
            f"embeds {shape.vocab_size}; give the backbone's own tokenizer",
            param="text.tokenizer",
        )
    positions = getattr(shape, "max_position_embeddings", None)
    if positions is not None and config.max_tokens > positions:
        raise SparsightError(
            f"text.max_tokens={config.max_tokens}, but the backbone {config.backbone!r} has "
            f"{positions} positions",
            param="text.max_tokens",
        )


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the states over real tokens, (batch, width); summed in fp32."""
    real = mask.unsqueeze(-1).float()
    return ((states.float() * real).sum(1) / real.sum(1)).to(states.dtype)


def _last(states: Tensor, mask: Tensor) -> Tensor:
    """The state of each text's last real token, (batch, width)."""
    position = torch.arange(mask.shape[1], device=mask.device)
    last = (position * mask).argmax(1)
    return states[torch.arange(len(states), device=states.device), last]
