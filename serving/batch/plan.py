"""What is made of each photograph: questions x steerings, codes, an embedding."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from sparse_encoder.errors import SparsightError
from vlm.edits import Edit
from vlm.pipeline import DEFAULT_PROMPT, Sampling
from vlm.recipe import Recipe
from vlm.steer_from import SteerFrom

Embedding = Literal["dense", "sparse"]
MAX_CAPTIONS = 256  # a photograph, answers by a schema with them
SCHEMA_PROMPT = "List what is in the image."
SCHEMA_TOKENS = 256  # at least; JSON is longer than a caption, and half of it is worth nothing


@dataclass(frozen=True)
class Steering:
    """Edits under a name that outputs carry; unsteered is ``Steering("plain")``."""

    name: str
    edits: tuple[Edit, ...] = ()
    recipe: Recipe | None = None
    resolve_again: bool = False
    steer_from: SteerFrom | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the name; equal steerings give equal objects."""
        out: dict[str, Any] = {"edits": [edit.to_json() for edit in self.edits]}
        if self.recipe is not None:
            out["recipe"] = self.recipe.to_json()
        if self.steer_from is not None:
            out["steer_from"] = {
                "sha256": self.steer_from.photo.sha256,
                "top": self.steer_from.top,
            }
        return out


PLAIN = Steering("plain")


@dataclass(frozen=True)
class Tags:
    """A question whose answer is JSON of a schema."""

    schema: str  # JSON text
    prompt: str = SCHEMA_PROMPT

    @classmethod
    def of(cls, schema: object, prompt: str = SCHEMA_PROMPT) -> "Tags":
        """Raises SparsightError for what is no schema at all; the model's guide sees to the rest."""
        if not isinstance(schema, dict):
            raise SparsightError(
                f'a JSON schema is an object, such as {{"type": "object", ...}}; this is '
                f"{type(schema).__name__}",
                param="schema",
            )
        return cls(json.dumps(schema, sort_keys=True), prompt)


@dataclass(frozen=True)
class Question:
    """What is asked of each photograph under each steering."""

    prompt: str
    max_tokens: int
    schema: str | None = None  # JSON text; the answer is JSON of it


@dataclass(frozen=True)
class Plan:
    """All that a result depends on besides the photograph."""

    fingerprint: str  # of the model
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)  # (): no captions
    steerings: tuple[Steering, ...] = (PLAIN,)
    max_tokens: int = Sampling().max_tokens
    codes: bool = False  # the global code, before any edit
    embedding: Embedding | None = None  # the same code, L2-normalised
    tags: Tags | None = None

    def __post_init__(self) -> None:
        names = [steering.name for steering in self.steerings]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SparsightError(
                f"two steerings are called {twice[0]!r}; give each its own name", param="recipe"
            )
        if len(set(self.prompts)) < len(self.prompts):
            raise SparsightError("the same prompt is given twice", param="prompt")
        n = len(self.questions) * len(self.steerings)
        if n > MAX_CAPTIONS:
            raise SparsightError(
                f"{len(self.questions)} prompts x {len(self.steerings)} steerings make {n} captions "
                f"a photograph, at most {MAX_CAPTIONS} are made; split them over several runs",
                param="sweep",
            )
        if not self.questions and not self.codes and self.embedding is None:
            raise SparsightError(
                "nothing is asked of a photograph: no caption, no JSON, no code, no embedding",
                param="caption",
            )

    @property
    def questions(self) -> tuple[Question, ...]:
        """Of captions, then of the schema."""
        asked = [Question(prompt, self.max_tokens) for prompt in self.prompts]
        if self.tags is not None:
            n_tokens = max(self.max_tokens, SCHEMA_TOKENS)
            asked.append(Question(self.tags.prompt, n_tokens, self.tags.schema))
        return tuple(asked)

    @property
    def is_simple(self) -> bool:
        """One caption and nothing else, which has the short form of a result."""
        return (
            len(self.prompts) == len(self.steerings) == 1
            and not self.codes
            and self.embedding is None
            and self.tags is None
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in every line of a journal; equal plans give equal objects."""
        if self.is_simple:
            # As versions before plans wrote it, so that their files go on.
            return {
                "fingerprint": self.fingerprint,
                "prompt": self.prompts[0],
                "steering": self.steerings[0].to_json(),
                "max_tokens": self.max_tokens,
            }
        out = {
            "fingerprint": self.fingerprint,
            "prompts": list(self.prompts),
            "steerings": [{"name": each.name, **each.to_json()} for each in self.steerings],
            "max_tokens": self.max_tokens,
            "codes": self.codes,
            "embedding": self.embedding,
        }
        if self.tags is not None:
            out["tags"] = {"schema": json.loads(self.tags.schema), "prompt": self.tags.prompt}
        return out


def difference(before: Any, now: dict[str, Any]) -> str:
    """In words, the first thing in which a recipe of an earlier run differs from this run's."""
    if not isinstance(before, dict):
        return "recipe"
    if before.keys() != now.keys():
        return f"kind of result (it has {', '.join(before)}; now {', '.join(now)})"
    for key, value in now.items():
        if before[key] != value:
            return f"{key} ({json.dumps(before[key])}, now {json.dumps(value)})"
    return "recipe"


def sweep(text: str, *, param: str = "sweep") -> list[tuple[str, dict[str, Any]]]:
    """``cat=0,0.5,1`` to one (name, edit) a dose: the shorthand with several numbers."""
    import re

    from vlm.shorthand import parse_shorthand

    head, at, region = text.partition("@")
    found = re.search(r"[=*+]", head)
    if found is None or "," not in head[found.end() :]:
        raise SparsightError(
            f"{text!r} is no sweep; write doses with commas, like cat=0,0.5,1 or cat*0.5,2",
            param=param,
        )
    target, doses = head[: found.end()], head[found.end() :].split(",")
    each = [f"{target}{dose.strip()}{at}{region}" for dose in doses]
    return [(one, parse_shorthand(one, param=param)) for one in each]
