"""A chat as the language model reads it: token ids with gaps where soft tokens go.

The layout is the one that vLLM makes of a chat whose image parts are prompt embeddings: the parts
of a message are joined with a newline, each image standing for its soft tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage

DEFAULT_PROMPT = "Describe the image in one sentence."
SUBJECT_PROMPT = "What is the main subject? Answer in one or two words."
GAP = "\ue000"  # a private-use character stands for an image until the text is cut


@dataclass(frozen=True)
class TextPart:
    text: str


@dataclass(frozen=True)
class ImagePart:
    image: DecodedImage


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    parts: tuple[TextPart | ImagePart, ...]


def chat_images(messages: Sequence[Message]) -> list[DecodedImage]:
    """All images of a chat, in reading order."""
    return [part.image for m in messages for part in m.parts if isinstance(part, ImagePart)]


def check_text(text: str, tokenizer: Any) -> None:
    """Refuses text that would read as the template's own marks."""
    for mark in (*tokenizer.all_special_tokens, GAP):
        if mark in text:
            raise SparsightError(
                f"the text holds {mark!r}, which is reserved for the chat template; remove it",
                param="messages",
                code="reserved_token",
            )


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends an answer: what the template puts after one, else the end of text.

    Raises SparsightError where the tokenizer has neither.
    """
    chat = [{"role": "user", "content": "A"}, {"role": "assistant", "content": GAP}]
    text: str = tokenizer.apply_chat_template(chat, tokenize=False)
    after = text.rpartition(GAP)[2].strip()
    ids = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    if ids and ids[0] in tokenizer.all_special_ids:
        return int(ids[0])
    if tokenizer.eos_token_id is None:
        raise SparsightError(
            f"the chat template puts {after[:20]!r} after an answer, which is no special token, and "
            "the tokenizer has no end-of-text token: an answer would never end; give another "
            "template",
            param="chat_template",
        )
    return int(tokenizer.eos_token_id)


def chat_pieces(messages: Sequence[Message], tokenizer: Any) -> list[list[int]]:
    """Token ids before, between and after the images: one list more than there are images.

    Ends with the mark that opens the assistant's turn. Raises SparsightError for reserved text.
    """
    text = chat_text(messages, tokenizer)
    return [tokenizer(cut, add_special_tokens=False)["input_ids"] for cut in text.split(GAP)]


def chat_text(messages: Sequence[Message], tokenizer: Any) -> str:
    """The same as text, in which `GAP` stands for an image."""
    plain = []
    for message in messages:
        contents = []
        for part in message.parts:
            if isinstance(part, TextPart):
                check_text(part.text, tokenizer)
            contents.append(part.text if isinstance(part, TextPart) else GAP)
        plain.append({"role": message.role, "content": "\n".join(contents)})
    text: str = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    return text
