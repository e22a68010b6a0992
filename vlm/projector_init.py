"""A projector that starts by naming its features to the language model.

The text tower says how strongly each word activates each feature; the language model has an
embedding for each word. A feature starts as the mean embedding of the words that raise it above
their average, so from the first step a soft token reads like the sum of a photograph's words.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from vlm.projector import Projector

_BLOCK = 512


@torch.no_grad()
def name_features(
    projector: Projector,
    model: Any,
    tokenizer: Any,
    words: Sequence[str],
    encode_texts: Callable[[list[str]], Tensor],
    examples: Codes,
) -> None:
    """Sets the first layer from words, scaled so that the examples' tokens are embedding-sized.

    encode_texts: texts to dense codes (texts, features). examples: codes of some photographs.
    Words go in blocks; words x features is never held.
    """
    table = model.get_input_embeddings().weight.cpu()
    common = table.float().mean(0)  # what all embeddings share says nothing
    mean = _mean_code(words, encode_texts)
    total = torch.zeros(projector.first.shape)
    for block in _blocks(words):
        lift = (encode_texts(block) - mean).clamp_min(0)  # (words, features)
        vectors = torch.stack([_word_vector(w, table, tokenizer) for w in block]) - common
        total += lift.T @ vectors
    length = total.norm(dim=1, keepdim=True)
    projector.first.copy_(total / length.clamp_min(1e-6))
    examples = examples.to(projector.first.device)
    wanted = float(table.float().norm(dim=1).mean())
    projector.first.mul_(wanted / float(projector(examples).norm(dim=-1).mean()))
    projector.slot.copy_(common.expand_as(projector.slot))


def _mean_code(words: Sequence[str], encode_texts: Callable[[list[str]], Tensor]) -> Tensor:
    total = sum((encode_texts(block).sum(0) for block in _blocks(words)), torch.zeros(()))
    return total / len(words)


def _blocks(words: Sequence[str]) -> list[list[str]]:
    return [list(words[i : i + _BLOCK]) for i in range(0, len(words), _BLOCK)]


def _word_vector(word: str, table: Tensor, tokenizer: Any) -> Tensor:
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return table[torch.tensor(ids)].float().mean(0)
