"""Baseline: features of a sparse autoencoder trained after the fact on the same trunk's vectors.

    x -> code of the autoencoder -> edits -> x' = x + decode(edited) - decode(code) -> sparse head

What the autoencoder does not explain of x stays in x'. It has no text tower, so a concept's features
are those whose mean activation on its training photographs exceeds that on all others most.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sparse_encoder.baselines.sae import SaeConfig
from sparse_encoder.baselines.sae_training import train_sae
from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage
from sparse_encoder.imported_sae import ImportedSae
from vlm.answer_batches import Question, Sample
from vlm.concepts import ResolvedEdit
from vlm.edits import MAX_K, Edit
from vlm.sae_steering import steer_through_sae
from vlm.steering_evaluation.moved_vectors import TrunkCells, digest
from vlm.steering_evaluation.training_photographs import TrainingPhotographs
from vlm.steering_evaluation.wishes import Strength, Way, Wish, edits_of

ROWS_AT_ONCE = 512


def trained_sae(training: TrainingPhotographs, config: SaeConfig, folder: Path) -> ImportedSae:
    """The autoencoder in `folder`, trained and written there where it is not yet."""
    if not folder.exists():
        aside = folder.with_name(f".{folder.name}.{os.getpid()}")
        sae = train_sae(training.vectors, training.n_vectors, config)
        ImportedSae.of_trained(sae, "trunk vectors").save(aside)
        aside.rename(folder)
    return ImportedSae.load(folder)


@dataclass(frozen=True)
class SaeFeatures:
    """Ways to steer by an autoencoder's features; a wish can be tried where `can` says so."""

    sae: ImportedSae
    cells: TrunkCells
    training: TrainingPhotographs
    _ranked: dict[str, list[int]] = field(default_factory=dict, repr=False)

    def can(self, wish: Wish) -> bool:
        """Whether there are training photographs enough of the wish's concepts."""
        return all(c in self.training.showing for c in (wish.source, wish.target) if c is not None)

    def way(self, strength_of: Callable[[str], Strength]) -> Way:
        """As the product steers, with the autoencoder's features and their own p99."""

        def way(wish: Wish, sample: Sample) -> Question:
            strength = strength_of(wish.concept)
            edits = self._resolved(edits_of(wish, strength))
            return Question(sample, codes_of=_SaeSteered(self, edits))

        return way

    def _resolved(self, edits: Sequence[Edit]) -> tuple[ResolvedEdit, ...]:
        """A feature that two edits want stays with the first of them."""
        taken: set[int] = set()
        out = []
        for edit in edits:
            assert edit.concept is not None and edit.k is not None
            own = [i for i in self._ranking(edit.concept) if i not in taken][: edit.k]
            taken.update(own)
            dose = edit.value or 0.0
            raw = tuple(dose * self.p99(i) for i in own)
            out.append(ResolvedEdit(edit, tuple(own), ("",) * len(own), raw, (dose,) * len(own)))
        return tuple(out)

    def _ranking(self, concept: str) -> list[int]:
        """The concept's features, best first."""
        if concept not in self._ranked:
            rows, n = self.training.showing[concept], len(self.training.pooled)
            own = _mean(self.codes, rows)
            others = (_mean(self.codes, torch.arange(n)) * n - own * len(rows)) / max(
                n - len(rows), 1
            )
            self._ranked[concept] = (own - others).argsort(descending=True)[: 2 * MAX_K].tolist()
        return self._ranked[concept]

    @cached_property
    def codes(self) -> Codes:
        """Codes of the training photographs' mean vectors, one row each."""
        blocks = self.training.pooled.split(ROWS_AT_ONCE)
        return Codes.cat([Codes.from_dense(self.sae.code(block)) for block in blocks])

    def p99(self, feature: int) -> float:
        """99th percentile of a feature's non-zero activations; 0 where it is dead."""
        values = self.codes.value[self.codes.index == feature]
        return float(values.quantile(0.99)) if len(values) else 0.0


@dataclass(frozen=True)
class _SaeSteered:
    """Codes of a photograph after edits on the autoencoder's features."""

    features: SaeFeatures
    edits: tuple[ResolvedEdit, ...]

    @property
    def name(self) -> str:
        sae = self.features.sae
        what = [(e.edit.op, e.features, e.raw_values) for e in self.edits]
        return f"autoencoder {digest(sae.encoder, sae.decoder)} {what}"

    def __call__(self, image: DecodedImage) -> Codes:
        cells = self.features.cells
        return steer_through_sae(
            cells.encoder, cells(image)[None], self.features.sae, self.edits
        ).codes


def _mean(codes: Codes, rows: Tensor) -> Tensor:
    """Mean code (features,) of some rows."""
    chosen = torch.zeros(codes.n_rows)
    chosen[rows] = 1.0
    weight = torch.repeat_interleave(chosen, codes.offset.diff())
    total = torch.zeros(codes.n_features).index_add(0, codes.index, codes.value * weight)
    return total / len(rows)
