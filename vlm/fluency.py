"""How likely the language model itself finds a text, without any image (corruption rule C5)."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from vlm.template import DEFAULT_PROMPT, Message, TextPart, chat_pieces


class Speaker(Protocol):
    """What is needed of ``vlm.pipeline.Pipeline``."""

    model: Any
    tokenizer: Any


class Fluency:
    """Mean negative log-likelihood of answers under the unsteered model, LoRA on, image left out.

    Scoring an answer against the unedited image would punish correct steering.
    """

    def __init__(self, speaker: Speaker, prompt: str = DEFAULT_PROMPT) -> None:
        self._speaker = speaker
        chat = [Message("user", (TextPart(prompt),))]
        (self._before,) = chat_pieces(chat, speaker.tokenizer)
        self._known: dict[str, float] = {}  # unsteered answers are judged once a pair

    def __call__(self, answers: Sequence[str]) -> list[float]:
        """Nats a token of each answer, >= 0; lower is more fluent. 0 for an answer of no tokens."""
        for answer in answers:
            if answer not in self._known:
                self._known[answer] = self._nll(answer)
        return [self._known[answer] for answer in answers]

    @torch.inference_mode()
    def _nll(self, answer: str) -> float:
        said = self._speaker.tokenizer(answer, add_special_tokens=False)["input_ids"]
        if not said:
            return 0.0
        ids = torch.tensor([[*self._before, *said]])
        model = self._speaker.model
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[0]
        start = len(self._before) - 1  # the state that predicts the answer's first token
        logits = model.lm_head(states[start : start + len(said)]).float()
        return float(torch.nn.functional.cross_entropy(logits, torch.tensor(said)))
