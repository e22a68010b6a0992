"""Token rows of training: captions that share their image, and conversations of several turns.

The layout is the pipeline's own, so that a request at serving reads as training did.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from sparse_encoder.errors import SparsightError
from vlm.packing import IGNORED, SOFT, Branch, Laid, lay_out
from vlm.template import (
    GAP,
    ImagePart,
    Message,
    TextPart,
    chat_pieces,
    chat_text,
    check_text,
    end_of_turn,
)


class RowLayout:
    """Makes rows for one tokenizer. Pickles, for loading processes."""

    def __init__(self, tokenizer: Any, n_soft: int, max_tokens: int) -> None:
        """n_soft: soft tokens an image. max_tokens: of a row; what is longer is cut."""
        self.tokenizer = tokenizer
        self.n_soft = n_soft
        self.max_tokens = max_tokens
        self._end = end_of_turn(tokenizer)

    def captions(self, prompt: str, captions: Sequence[str]) -> Laid | None:
        """One image, one question, several answers. None where no token of one fits."""
        image: Any = None  # only its place is needed
        before, after = chat_pieces(
            [Message("user", (ImagePart(image), TextPart(prompt)))], self.tokenizer
        )
        prefix = [*before, *self._soft(), *after]
        # The prefix's last token is repeated in each branch: it predicts the answer's first token.
        shared, last = (prefix, []) if len(captions) == 1 else (prefix[:-1], prefix[-1:])
        room = self.max_tokens - len(prefix)
        branches = []
        for caption in captions:
            answer = [*self._tokens(caption), self._end][: max(0, room)]
            room -= len(answer) + len(last)
            if answer:
                branches.append(Branch(tuple(last), tuple(answer)))
        return lay_out(shared, branches) if branches else None

    def conversation(self, messages: Sequence[Message]) -> list[Laid]:
        """Rows in which every answer is trained on; one row where the template allows it.

        A template that writes a chat's beginning in another way once it goes on (such as one that
        takes thoughts out of earlier answers) needs a row for each answer.
        """
        try:
            turns = self._turns(messages)
            rows = [turns] if self._goes_on(turns) else [turns[: n + 1] for n in range(len(turns))]
            laid = [self._lay(row if len(rows) == 1 else row[-1:]) for row in rows]
        except TemplateError as error:
            raise SparsightError(
                f"the chat template refuses the conversation: {error}", param="chat_template"
            ) from error
        return [row for row in laid if row is not None]

    def _turns(self, messages: Sequence[Message]) -> list[tuple[str, str]]:
        """For each answer, the chat's text up to it, and the answer."""
        out = []
        for n, message in enumerate(messages):
            if message.role == "assistant":
                part = message.parts[0]
                assert isinstance(part, TextPart)
                check_text(part.text, self.tokenizer)
                out.append((chat_text(messages[:n], self.tokenizer), part.text))
        return out

    def _goes_on(self, turns: list[tuple[str, str]]) -> bool:
        return all(
            later[0].startswith(text) and later[0][len(text) :].lstrip().startswith(answer)
            for (text, answer), later in zip(turns, turns[1:], strict=False)
        )

    def _lay(self, turns: list[tuple[str, str]]) -> Laid | None:
        """The row of turns that follow one another; None where no answer, or not each image, fits."""
        tokens: list[int] = []
        asked: list[bool] = []
        done = ""
        for n, (text, answer) in enumerate(turns):
            between = text[len(done) :]
            if n:
                between = between.lstrip()[len(turns[n - 1][1]) :]
            new = self._text(between)
            if n and new and new[0] == self._end:
                new = new[1:]  # it stands there already, asked for
            said = [*self._tokens(answer), self._end]
            tokens += [*new, *said]
            asked += [False] * len(new) + [True] * len(said)
            done = text
        if SOFT in tokens[self.max_tokens :]:
            return None
        tokens, asked = tokens[: self.max_tokens], asked[: self.max_tokens]
        if not any(asked):
            return None
        # The token at place p predicts the next one.
        targets = [t if a else IGNORED for t, a in zip(tokens[1:], asked[1:], strict=True)] + [
            IGNORED
        ]
        return Laid(tokens, list(range(len(tokens))), targets, [0] * len(tokens))

    def _text(self, text: str) -> list[int]:
        """Tokens of template text with its images."""
        first, *others = text.split(GAP)
        out = self._tokens(first)
        for piece in others:
            out += [*self._soft(), *self._tokens(piece)]
        return out

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _soft(self) -> list[int]:
        return [SOFT] * self.n_soft
