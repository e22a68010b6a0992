"""Codes edited as steering edits them, with the caption that then belongs to them.

A model that has seen swapped, thinned and amplified codes in training takes a steered code for a
photograph's. What each brings is measured by ``python -m bench.captioner_ablation``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from vlm.apply import apply_edits
from vlm.concept_swaps import Swap
from vlm.concepts import resolve
from vlm.edits import Edit

# Ablated activation, in p99 summed over the features, below which the thing was hardly in the code.
LEAST_TAKEN = 0.25
_SHARES = ("swap", "suppress", "insert", "dropout", "dropped", "amplify", "amplified")


@dataclass(frozen=True)
class EditShares:
    """How often and how hard codes are edited in training."""

    swap: float = 0.3  # share of captions and labels with a thing swapped in code and words
    suppress: float = 0.2  # share of swaps that only take the thing away
    insert: float = 0.0  # share of swaps that take nothing away
    least_dose: float = 0.6  # clamp, in p99, log-uniform
    most_dose: float = 2.5  # the largest such clamp, in p99
    ks: tuple[int, ...] = (1, 2, 4, 8, 16)  # features a concept
    dropout: float = 0.0  # share of codes that lose features, the caption stays
    dropped: float = 0.1  # share of the active features that such a code loses
    amplify: float = 0.0  # share of codes with features made stronger, the caption stays
    amplified: float = 0.05  # share of the active features that are made stronger in such a code
    most_factor: float = 4.0  # times the activation, log-uniform from 1

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise SparsightError(
                    f"edits.{name}={getattr(self, name)} is a share, 0 to 1", param=f"edits.{name}"
                )
        if self.most_factor < 1:
            raise SparsightError(
                f"edits.most_factor={self.most_factor}: expected 1 or more",
                param="edits.most_factor",
            )
        if self.suppress + self.insert > 1:
            raise SparsightError(
                f"edits.suppress={self.suppress} and edits.insert={self.insert}: shares of the same "
                "swaps, expected at most 1 together",
                param="edits.insert",
            )
        if not 0 < self.least_dose <= self.most_dose:
            raise SparsightError(
                f"edits.least_dose={self.least_dose}, edits.most_dose={self.most_dose}: expected "
                "doses above 0, the least first",
                param="edits.least_dose",
            )

    @property
    def any(self) -> bool:
        """Whether any code is edited."""
        return max(self.swap, self.dropout, self.amplify) > 0


class CodeEditor:
    """Swaps concepts in codes; draws depend on the generator alone."""

    def __init__(
        self,
        atlas: FeatureAtlas,
        encode_texts: Callable[[list[str]], Tensor],
        shares: EditShares,
    ) -> None:
        """encode_texts: texts to dense codes (texts, features)."""
        self.atlas = atlas
        self.shares = shares
        self._encode_texts = encode_texts
        self._concept_codes: dict[str, Tensor] = {}

    def swapped(self, codes: Codes, swap: Swap, random: np.random.Generator) -> Codes | None:
        """Codes of one image in which the swap's source, if any, gives way to its target.

        None where the codes have no feature for one of them, or hardly any of the source's: a code
        that stayed as it was, with the thing gone from its caption, would teach to forget things.
        """
        try:
            resolved = resolve(self._edits(swap, random), self.atlas, self._encode)
        except SparsightError:
            return None
        edited, applied = apply_edits(codes, resolved)
        taken = sum(
            done.before / max(float(self.atlas.p99[done.feature]), 1e-6)
            for done in applied
            if done.op == "ablate"
        )
        return None if swap.source is not None and taken < LEAST_TAKEN else edited.codes

    def _edits(self, swap: Swap, random: np.random.Generator) -> list[Edit]:
        k = int(self.shares.ks[random.integers(len(self.shares.ks))])
        low, high = np.log(self.shares.least_dose), np.log(self.shares.most_dose)
        out = []
        if swap.source is not None:
            out.append(Edit(op="ablate", concept=swap.source.name, k=max(k, 4)))
        if swap.target is not None:
            dose = float(np.exp(random.uniform(low, high)))
            out.append(Edit(op="clamp", concept=swap.target.name, value=dose, k=k))
        return out

    def _encode(self, texts: list[str]) -> Tensor:
        """The text tower with its answers kept: things recur thousands of times."""
        new = [t for t in dict.fromkeys(texts) if t not in self._concept_codes]
        if new:
            self._concept_codes.update(zip(new, self._encode_texts(new), strict=True))
        return torch.stack([self._concept_codes[t] for t in texts])


def disturbed(codes: Codes, shares: EditShares, random: np.random.Generator) -> Codes:
    """The codes of one image with features dropped or amplified, as `shares` asks.

    A feature goes, or grows by one factor, in the global code and in all cells. Nothing is drawn for
    a share of 0, so that runs without these options keep their draws.
    """
    if shares.dropout and random.random() < shares.dropout:
        codes = _dropped(codes, shares.dropped, random)
    if shares.amplify and random.random() < shares.amplify:
        codes = _amplified(codes, shares, random)
    return codes


def _dropped(codes: Codes, share: float, random: np.random.Generator) -> Codes:
    features, place = codes.index.unique(return_inverse=True)
    kept = torch.from_numpy(random.random(len(features)) >= share).to(place.device)[place]
    counts = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
    return Codes(
        codes.index[kept], codes.value[kept], counts[codes.offset], codes.n_features, codes.grid
    )


def _amplified(codes: Codes, shares: EditShares, random: np.random.Generator) -> Codes:
    features, place = codes.index.unique(return_inverse=True)
    chosen = random.random(len(features)) < shares.amplified
    factor = np.exp(random.uniform(0, np.log(shares.most_factor), len(features)))
    times = torch.from_numpy(np.where(chosen, factor, 1.0)).to(codes.value)[place]
    return Codes(codes.index, codes.value * times, codes.offset, codes.n_features, codes.grid)
