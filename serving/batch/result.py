"""What became of one photograph, and its line in a journal."""

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
        ``sha256``, ``captions``, ``code``, ``embedding`` as far as they were asked for.
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
        if not outputs.keys() & {"caption", "captions", "code", "embedding"}:
            raise KeyError("no output")
        return cls(path, outputs, None, _digest(outputs), entry.get("duplicate_of"))

    @property
    def captions(self) -> list[str]:
        """Every caption, in the order of the plan."""
        if "caption" in self.outputs:
            return [self.outputs["caption"]]
        return [each["caption"] for each in self.outputs.get("captions", ())]

    @property
    def warnings(self) -> list[str]:
        """Of all receipts."""
        receipts = [self.outputs.get("receipt")]
        receipts += [each["receipt"] for each in self.outputs.get("captions", ())]
        return [word for receipt in receipts if receipt for word in receipt.get("warnings", ())]


def _digest(outputs: dict[str, Any]) -> str | None:
    if "sha256" in outputs:
        return str(outputs["sha256"])
    receipt = outputs.get("receipt")
    # Lines of older runs may have no receipt; they only cannot serve as originals.
    images = receipt.get("images") if isinstance(receipt, dict) else None
    return str(images[0]["sha256"]) if images else None
