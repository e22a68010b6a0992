"""What became of one photograph, and its line in a journal."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """Outputs, or an error. `path` is the photograph's name; see `to_json` for the shapes.

    sha256: of the file's bytes. duplicate_of: an earlier photograph with the same bytes, whose
    outputs these are.
    """

    path: str
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    sha256: str | None = None
    duplicate_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """``path`` first; then ``error``, or ``duplicate_of`` where it is one and the outputs.

        Outputs of one caption are ``caption`` and ``receipt`` (which holds the digest); of more,
        ``sha256``, ``captions``, ``tags``, ``code``, ``embedding`` as far as they were asked for.
        """
        out: dict[str, Any] = {"path": self.path}
        if self.error is not None:
            return {**out, "error": self.error}
        if self.duplicate_of is not None:
            out["duplicate_of"] = self.duplicate_of
        return {**out, **self.outputs}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Result":
        """The result of a line that to_json gave; other keys (the recipe) are dropped."""
        path = entry["path"]
        if not isinstance(path, str):
            raise TypeError("path is no string")
        if "error" in entry:
            return cls(path, error=str(entry["error"]))
        outside = ("path", "recipe", "duplicate_of")
        outputs = {key: value for key, value in entry.items() if key not in outside}
        if not outputs.keys() & {"caption", "captions", "tags", "code", "embedding"}:
            raise KeyError("no output")
        return cls(path, outputs, None, _digest(outputs), entry.get("duplicate_of"))

    @property
    def captions(self) -> list[str]:
        """Every caption, in the order of the plan."""
        if "caption" in self.outputs:
            return [self.outputs["caption"]]
        return [each["caption"] for each in self.outputs.get("captions", ())]

    @property
    def keywords(self) -> list[str]:
        """All texts in the answers by a schema, each once, in order: what a picture library files
        a photograph under."""
        found = [each["json"] for each in self.outputs.get("tags", ())]
        return list(dict.fromkeys(text for answer in found for text in _texts(answer) if text))

    @property
    def warnings(self) -> list[str]:
        """Of all receipts."""
        receipts = [self.outputs.get("receipt")]
        for key in ("captions", "tags"):
            receipts += [each["receipt"] for each in self.outputs.get(key, ())]
        return [word for receipt in receipts if receipt for word in receipt.get("warnings", ())]


def _texts(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield " ".join(found.split())
    elif isinstance(found, dict | list):
        for each in found.values() if isinstance(found, dict) else found:
            yield from _texts(each)


def _digest(outputs: dict[str, Any]) -> str | None:
    if "sha256" in outputs:
        return str(outputs["sha256"])
    receipt = outputs.get("receipt")
    # Lines of older runs may have no receipt; they only cannot serve as originals.
    images = receipt.get("images") if isinstance(receipt, dict) else None
    return str(images[0]["sha256"]) if images else None
