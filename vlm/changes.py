"""Codes of one request's images after its edits, held as what the edits changed.

Edits change a few columns of a code, and to write out the others anew takes longer than all else that
steering does. So the codes before are kept as they are, soft tokens are moved by what the changed
columns add (`Projector.edited_sums`), and the digest is of both. Whoever needs the edited codes in
full asks for `codes`.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sparse_encoder.codes import Codes


@dataclass(frozen=True)
class Change:
    """The activations of some features of one image, each of which changed in some row.

    features: ascending. before, after: (1 + cells, len(features)), the global code first. removed: the
    same, what ablations took with nothing in its place and 0 elsewhere; None where that is nothing. The
    edited code does not depend on it, the soft tokens do (`ProjectorConfig.removal`).
    """

    features: tuple[int, ...]
    before: Tensor
    after: Tensor
    removed: Tensor | None = None


@dataclass(frozen=True)
class EditedCodes:
    """Codes before any edit, and for each image what changed, None where nothing did."""

    base: Codes
    changes: tuple[Change | None, ...]

    @classmethod
    def unchanged(cls, codes: Codes) -> "EditedCodes":
        """Codes without an edit."""
        return cls(codes, (None,) * codes.n_images)

    @cached_property
    def codes(self) -> Codes:
        """The edited codes in full; the very same object where nothing changed.

        An image that nothing changed keeps its rows bit for bit. Holds the dense rows
        (1 + cells, features) of one image at a time.
        """
        if not any(self.changes):
            return self.base
        images = (self.base.image(i) for i in range(self.base.n_images))
        return Codes.cat([_written(i, c) for i, c in zip(images, self.changes, strict=True)])

    def sha256(self) -> str:
        """Digest of the codes before and of what changed; that of the codes where nothing did."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        if not any(self.changes):
            return self.base.sha256()
        digest = hashlib.sha256(self.base.sha256().encode())
        for image, change in enumerate(self.changes):
            if change is not None:
                digest.update(f" {image} {change.features} ".encode())
                digest.update(change.after.contiguous().numpy().tobytes())
                if change.removed is not None:
                    digest.update(b" removed ")
                    digest.update(change.removed.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def global_norms(self) -> list[tuple[float, float]]:
        """L2 norm of each image's global code before and after, raw units."""
        out = []
        for i, change in enumerate(self.changes):
            rows = self.base.image(i)
            own = slice(0, int(rows.offset[1]))
            index, value = rows.index[own], rows.value[own]
            before = _norm(value)
            if change is None:
                out.append((before, before))
                continue
            row = torch.zeros(rows.n_features)
            row[index] = value
            row[list(change.features)] = change.after[0]
            out.append((before, _norm(row[row.nonzero()[:, 0]])))
        return out


def _written(rows: Codes, change: Change | None) -> Codes:
    if change is None:
        return rows
    dense = rows.dense()  # (1 + cells, features)
    dense[:, list(change.features)] = change.after
    return Codes.from_dense(dense, rows.grid)


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.double()))
