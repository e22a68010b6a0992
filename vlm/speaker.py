"""The language model alone, for soft prompts that were made in another process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparse_encoder.wheel import Progress
from vlm.answer_text import AnswerText, FinishReason
from vlm.decoding import decode
from vlm.guide import Guides
from vlm.language_model import embed, load_language_model, with_adapter
from vlm.model_folder import ModelFolder, read_model
from vlm.sampling import Sampling
from vlm.soft_prompt import SoftPrompt
from vlm.template import end_of_turn


class Said(NamedTuple):
    """An answer's text and why it ended."""

    text: str
    finish_reason: FinishReason


class Speaker:
    """Not safe for threads: one owner at a time."""

    def __init__(self, model: Any, tokenizer: Any, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._model = model.to(self._device)
        self._tokenizer = tokenizer
        self._end = end_of_turn(tokenizer)
        self._guides = Guides(tokenizer, int(model.config.vocab_size), self._end)

    @classmethod
    def load(cls, model: str | Path, *, device: str = "cpu") -> "Speaker":
        """The language model of a model's name or folder, LoRA merged in."""
        return cls(*load_folder_llm(read_model(model)), device=device)

    @torch.inference_mode()
    def say(self, prompts: Sequence[SoftPrompt], samplings: Sequence[Sampling]) -> list[Said]:
        """One answer a prompt, generated as one batch; what `Pipeline.answer` would give.

        Raises SparsightError where a prompt is too long or a schema cannot be held to.
        """
        if not prompts:
            return []
        texts = [AnswerText(self._tokenizer, self._end, s.stop) for s in samplings]
        steps = decode(
            self._model,
            [self._inputs(prompt) for prompt in prompts],
            samplings,
            self._end,
            [self._guides.of(sampling.json_schema) for sampling in samplings],
            lambda i: texts[i].finish is not None,
        )
        for step in steps:
            for i, token, logprob in step:
                texts[i].add(token, logprob)
        for text in texts:
            text.close()
        return [Said(text.text, text.finish or "length") for text in texts]

    def _inputs(self, prompt: SoftPrompt) -> Tensor:
        """(tokens, hidden)"""
        vectors = [embed(self._model, prompt.pieces[0])]
        for soft, after in zip(prompt.soft, prompt.pieces[1:], strict=True):
            vectors += [soft.to(vectors[0]), embed(self._model, after)]
        return torch.cat(vectors)


def load_folder_llm(
    folder: ModelFolder, progress: Progress | None = None, *, with_weights: bool = True
) -> tuple[Any, Any]:
    """(model, tokenizer) of a model folder, LoRA merged in.

    with_weights: otherwise the shape alone, which takes no memory and can say nothing.
    """

    def load() -> tuple[Any, Any]:
        return load_language_model(
            folder.config["llm"],
            progress,
            chat_template=folder.config.get("chat_template", ""),
            home=folder.path,
            with_weights=with_weights,
        )

    if not with_weights:
        with torch.device("meta"):
            return load()
    llm, tokenizer = load()
    return with_adapter(llm, folder.path / "adapter"), tokenizer
