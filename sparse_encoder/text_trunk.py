"""Text trunk of `sparsight-mini`: a sentence encoder, mean-pooled over its tokens."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer


class SentenceTrunk(nn.Module):
    """Frozen transformer; `forward` gives one pooled vector a text."""

    max_tokens = 64

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.eval().requires_grad_(False)

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    @torch.inference_mode()
    def forward(self, texts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Mean of the last hidden states over real tokens, (texts, width); cut at 64 tokens."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
        out = torch.zeros(len(texts), self.width)
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            batch = self.tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.model.device)
            states = self.model(**batch).last_hidden_state.float()  # (batch, tokens, width)
            real = batch["attention_mask"].unsqueeze(-1).float()
            out[rows] = ((states * real).sum(1) / real.sum(1)).cpu()
        return out
