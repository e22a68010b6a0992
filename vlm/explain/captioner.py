"""The captioner with its code open: the same question to one photograph under changed codes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.decoding import check_length, decode
from vlm.language_model import embed
from vlm.pipeline import DEFAULT_PROMPT, Pipeline
from vlm.sampling import Sampling
from vlm.template import ImagePart, Message, TextPart, chat_pieces, end_of_turn

BLOCK = 8  # codes that pass the language model at once; about 60 tokens each


class Captioner:
    """One question about one photograph. Not safe for threads, as the pipeline it belongs to."""

    def __init__(
        self, pipeline: Pipeline, image: DecodedImage, prompt: str = DEFAULT_PROMPT
    ) -> None:
        """Raises SparsightError for a model with an imported autoencoder."""
        if pipeline.reader is not None:
            raise SparsightError(
                f"{pipeline.name} has the features of an autoencoder, which its captioner reads through "
                "other codes; why it says a word can be told of a model with sparse heads alone",
                param="word",
                code="imported_features",
            )
        self._pipeline = pipeline
        self._model = pipeline.model
        self._sampling = Sampling()  # greedy, as a caption is
        self._end = end_of_turn(pipeline.tokenizer)
        message = Message("user", (ImagePart(image), TextPart(prompt)))
        before, after = chat_pieces([message], pipeline.tokenizer)
        self._before = embed(self._model, before).detach()  # (tokens, hidden)
        self._after = embed(self._model, after).detach()

    def captions(self, codes: Codes) -> list[list[int]]:
        """The greedy caption's tokens under each code of a batch, its end mark left out."""
        out: list[list[int]] = []
        for block in _blocks(codes):
            with torch.inference_mode():
                soft = self._pipeline.soft_tokens(block)
                prompts = [torch.cat([self._before, one, self._after]) for one in soft]
            tokens: list[list[int]] = [[] for _ in prompts]
            for step in decode(self._model, prompts, [self._sampling] * len(prompts), self._end):
                for i, token, _ in step:
                    if token != self._end:
                        tokens[i].append(token)
            out += tokens
        return out

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say, as an answer has it."""
        said: str = self._pipeline.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return said

    def log_probs(self, codes: Codes, said: Sequence[int], word: Sequence[int]) -> Tensor:
        """Log-probability of the tokens `word` after the tokens `said`, under each code, (images,).

        In nats, summed over the tokens of `word`. Carries gradients where the codes' values do.
        """
        rows = [self._log_probs(block, said, word) for block in _blocks(codes)]
        return torch.cat(rows)

    def next_log_probs(self, codes: Codes, said: Sequence[int]) -> Tensor:
        """Log-probabilities after each beginning of `said`, (1 + len(said), vocabulary).

        codes: of one photograph. Row i is what may follow the first i tokens.
        """
        return self._states_to_log_probs(codes, said, len(said) + 1)[0]

    def _log_probs(self, codes: Codes, said: Sequence[int], word: Sequence[int]) -> Tensor:
        rows = self._states_to_log_probs(codes, [*said, *word[:-1]], len(word))
        picked = rows[:, torch.arange(len(word)), torch.tensor(list(word))]  # (images, len(word))
        return picked.sum(1)

    def _states_to_log_probs(self, codes: Codes, said: Sequence[int], n_last: int) -> Tensor:
        """(images, n_last, vocabulary) of the last positions; only they meet the vocabulary."""
        soft = self._pipeline.soft_tokens(codes)  # (images, soft tokens, hidden)
        tail = torch.cat([self._after, embed(self._model, list(said)).detach()])
        n_images = len(soft)
        inputs = torch.cat(
            [self._before.expand(n_images, -1, -1), soft, tail.expand(n_images, -1, -1)], dim=1
        )
        check_length(self._model, [inputs[0]], [Sampling(max_tokens=1)])
        states = self._model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        logits: Tensor = self._model.lm_head(states[:, -n_last:]).float()
        return logits.log_softmax(-1)


def _blocks(codes: Codes) -> list[Codes]:
    """The codes in batches of at most BLOCK; the very same object where one is enough."""
    if codes.n_images <= BLOCK:
        return [codes]
    images = [codes.image(i) for i in range(codes.n_images)]
    return [Codes.cat(images[i : i + BLOCK]) for i in range(0, len(images), BLOCK)]
