"""What is made of each photograph: prompts x steerings, codes, an embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sparse_encoder.errors import SparsightError
from vlm.edits import Edit
from vlm.pipeline import DEFAULT_PROMPT, Sampling

Embedding = Literal["dense", "sparse"]
MAX_CAPTIONS = 256  # a photograph


@dataclass(frozen=True)
class Steering:
    """Edits under a name that outputs carry; unsteered is ``Steering("plain")``."""

    name: str
    edits: tuple[Edit, ...] = ()


PLAIN = Steering("plain")


@dataclass(frozen=True)
class Plan:
    """All that a result depends on besides the photograph."""

    fingerprint: str  # of the model
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)  # (): no captions
    steerings: tuple[Steering, ...] = (PLAIN,)
    max_tokens: int = Sampling().max_tokens
    codes: bool = False  # the global code, before any edit
    embedding: Embedding | None = None  # the same code, L2-normalised

    def __post_init__(self) -> None:
        names = [steering.name for steering in self.steerings]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SparsightError(
                f"two steerings are called {twice[0]!r}; give each its own name", param="preset"
            )
        if len(set(self.prompts)) < len(self.prompts):
            raise SparsightError("the same prompt is given twice", param="prompt")
        n = len(self.prompts) * len(self.steerings)
        if n > MAX_CAPTIONS:
            raise SparsightError(
                f"{len(self.prompts)} prompts x {len(self.steerings)} steerings make {n} captions "
                f"a photograph, at most {MAX_CAPTIONS} are made; split them over several runs",
                param="sweep",
            )
        if not self.prompts and not self.codes and self.embedding is None:
            raise SparsightError(
                "nothing is asked of a photograph: no caption, no code, no embedding",
                param="caption",
            )

    @property
    def is_simple(self) -> bool:
        """One caption and nothing else, which has the short form of a result."""
        return (
            len(self.prompts) == len(self.steerings) == 1
            and not self.codes
            and self.embedding is None
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in every line of a journal; equal plans give equal objects."""
        if self.is_simple:
            # As versions before plans wrote it, so that their files go on.
            return {
                "fingerprint": self.fingerprint,
                "prompt": self.prompts[0],
                "steering": {"edits": [edit.to_json() for edit in self.steerings[0].edits]},
                "max_tokens": self.max_tokens,
            }
        return {
            "fingerprint": self.fingerprint,
            "prompts": list(self.prompts),
            "steerings": [
                {"name": each.name, "edits": [edit.to_json() for edit in each.edits]}
                for each in self.steerings
            ],
            "max_tokens": self.max_tokens,
            "codes": self.codes,
            "embedding": self.embedding,
        }


def difference(before: Any, now: dict[str, Any]) -> str:
    """In words, the first thing in which a recipe of an earlier run differs from this run's."""
    import json

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


def read_presets(path: str, *, fingerprint: str, n_features: int) -> Sequence[Steering]:
    """The steerings of a preset file: one preset, named after the file, or an object of several.

    Raises SparsightError where the file is none, or was made for another model.
    """
    import json
    from pathlib import Path

    from vlm.edits import parse_edits, preset_steering

    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SparsightError(
            f"the preset {path} cannot be read: {error.strerror or error}", param="preset"
        ) from error
    except ValueError as error:
        raise SparsightError(f"{path} is no JSON: {error}", param="preset") from error
    single = isinstance(content, dict) and "steering" in content
    presets = {Path(path).stem: content} if single else content
    if not isinstance(presets, dict) or not presets:
        raise SparsightError(
            f"{path} holds no preset; expected {{'fingerprint': ..., 'steering': ...}}, or an "
            "object of such presets by name",
            param="preset",
        )
    found = []
    for name, preset in presets.items():
        where = f"{path}: {name}"
        steering = preset_steering(preset, fingerprint=fingerprint, param=where)
        edits = parse_edits(steering, n_images=1, n_features=n_features, param=where)
        found.append(Steering(name, edits))
    return found
