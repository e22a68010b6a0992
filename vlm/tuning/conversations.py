"""Conversations about images, as LLaVA's files hold them, checked before anything is trained.

One object of a JSON list, or a line of JSON lines, is ``{"id": ..., "image": "a.jpg" or a list,
"conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value":
"A cat."}, ...]}``; ``messages`` with ``role`` and ``content`` is read, too. Every answer is trained on.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sparse_encoder.errors import SparsightError
from vlm.template import ImagePart, Message, TextPart

log = logging.getLogger(__name__)
PLACEHOLDER = "<image>"
_SHOWN = 5  # problems that an error lists
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}


class ConversationError(SparsightError):
    """A file of conversations, or some of its items, that cannot be trained on."""

    code = "bad_conversations"


@dataclass(frozen=True)
class Conversation:
    """One item of a file."""

    where: str  # file, number and id, for reports
    images: tuple[str, ...]  # paths, in the order of their placeholders
    turns: tuple[tuple[str, str], ...]  # role and text, placeholders in the text

    def messages(self) -> list[Message]:
        """The chat as the pipeline reads it: each placeholder an image, the text around it trimmed."""
        return [Message(_ROLES[role], tuple(_parts(text))) for role, text in self.turns]


def read_conversations(
    files: Sequence[Path], folder: Path | None, *, skip_bad: bool = False
) -> list[Conversation]:
    """Every conversation of the files, in order.

    folder: where images lie that are named by relative paths; by default the file's own folder.
    Raises ConversationError, which names file and items and says how many are bad, unless skip_bad;
    then they are left out, and their number is logged.
    """
    found: list[Conversation] = []
    bad: list[str] = []
    n_items = 0
    for file in files:
        for number, item in enumerate(_items(file), start=1):
            n_items += 1
            try:
                found.append(_conversation(file, number, item, folder or file.parent))
            except ConversationError as error:
                bad.append(error.message)
    if bad and not skip_bad:
        more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        shown = "\n  ".join(bad[:_SHOWN])
        raise ConversationError(
            f"{len(bad)} of {n_items} conversations cannot be trained on:\n  {shown}{more}\n"
            "mend them, or leave them out with --set skip_bad=true",
            param="conversations",
        )
    for problem in bad[:_SHOWN]:
        log.warning("left out: %s", problem)
    if bad:
        log.warning("left out: %d of %d conversations", len(bad), n_items)
    if files and not found:
        raise ConversationError(
            f"there is no conversation in {', '.join(map(str, files))}", param="conversations"
        )
    return found


def _items(file: Path) -> Iterator[Any]:
    try:
        text = file.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            yield from json.loads(text)
            return
    except (OSError, ValueError) as error:
        raise ConversationError(
            f"{file} cannot be read ({error}); expected a JSON list, or one JSON object a line",
            param="conversations",
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            raise ConversationError(
                f"{file}, line {number} is no JSON ({error}); expected one object a line",
                param="conversations",
            ) from error


def _conversation(file: Path, number: int, item: Any, folder: Path) -> Conversation:
    where = f"{file}, item {number}"
    if not isinstance(item, dict):
        raise ConversationError(f"{where} is a {type(item).__name__}, expected an object")
    if "id" in item:
        where += f" (id {item['id']})"
    turns = _turns(where, item)
    images = item.get("image", item.get("images")) or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(i, str) for i in images):
        raise ConversationError(f"{where}: image is {images!r}, expected a path or a list of paths")
    _check_roles(where, [role for role, _ in turns])
    for role, text in turns:
        if role == "assistant" and not text.strip():
            raise ConversationError(f"{where}: an answer is empty, so it has no token to learn")
        if role != "user" and PLACEHOLDER in text:
            raise ConversationError(f"{where}: {PLACEHOLDER} stands in a turn of the {role}")
    places = sum(text.count(PLACEHOLDER) for _, text in turns)
    if places != len(images):
        raise ConversationError(
            f"{where}: {places} {PLACEHOLDER} for {len(images)} images; expected one each"
        )
    paths = [folder / image for image in images]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise ConversationError(f"{where}: the image {missing[0]} does not exist")
    return Conversation(where, tuple(map(str, paths)), tuple(turns))


def _turns(where: str, item: dict[str, Any]) -> list[tuple[str, str]]:
    raw = item.get("conversations", item.get("messages"))
    if not isinstance(raw, list) or not raw:
        raise ConversationError(
            f"{where} has no turns; expected a list under conversations or messages"
        )
    turns: list[tuple[str, str]] = []
    for turn in raw:
        try:
            role = _ROLES[turn.get("from", turn.get("role"))]
            text = turn.get("value", turn.get("content"))
            if not isinstance(text, str):
                raise TypeError(text)
        except (AttributeError, KeyError, TypeError):
            raise ConversationError(
                f"{where}: a turn is {str(turn)[:80]}; expected from (human, gpt or system) and "
                "value, or role and content, both text"
            ) from None
        turns.append((role, text))
    return turns


def _check_roles(where: str, roles: list[str]) -> None:
    said = roles[1:] if roles[0] == "system" else roles
    wanted = ["user", "assistant"] * (len(said) // 2 + 1)
    if "assistant" not in said:
        raise ConversationError(f"{where} has no answer, so there is no token to learn")
    if said != wanted[: len(said)] or said[-1] != "assistant":
        raise ConversationError(
            f"{where}: roles out of order ({', '.join(roles)}); expected user and assistant in "
            "turn, the assistant last, and a system turn at most in front"
        )


def _parts(text: str) -> Iterator[TextPart | ImagePart]:
    image: Any = None  # only its place is needed
    for n, piece in enumerate(text.split(PLACEHOLDER)):
        if n:
            yield ImagePart(image)
        if piece.strip():
            yield TextPart(piece.strip())
