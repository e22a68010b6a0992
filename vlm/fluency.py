"""How likely the language model itself finds a text, without any image (corruption rule C5)."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from vlm.template import DEFAULT_PROMPT, Message, TextPart, chat_pieces

BATCH_SIZE = 16  # answers a pass


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
        said = {
            answer: self._speaker.tokenizer(answer, add_special_tokens=False)["input_ids"]
            for answer in dict.fromkeys(answers)
            if answer not in self._known
        }
        by_length = sorted(said, key=lambda answer: len(said[answer]))
        for start in range(0, len(by_length), BATCH_SIZE):
            block = by_length[start : start + BATCH_SIZE]
            self._known.update(zip(block, self._nlls([said[a] for a in block]), strict=True))
        return [self._known[answer] for answer in answers]

    @torch.inference_mode()
    def _nlls(self, said: Sequence[list[int]]) -> list[float]:
        """Of each answer's tokens; one pass, padded on the right, where no token looks."""
        longest = max(map(len, said))
        rows = [[*self._before, *ids, *[0] * (longest - len(ids))] for ids in said]
        model = self._speaker.model
        states = model.model(input_ids=torch.tensor(rows), use_cache=False).last_hidden_state
        start = len(self._before) - 1  # the state that predicts the answer's first token
        out = []
        for state, ids in zip(states, said, strict=True):
            logits = model.lm_head(state[start : start + len(ids)]).float()
            loss = torch.nn.functional.cross_entropy(
                logits, torch.tensor(ids, dtype=torch.int64), reduction="sum"
            )
            out.append(float(loss) / len(ids) if ids else 0.0)
        return out
