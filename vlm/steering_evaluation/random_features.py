"""Control: the same edits on random features that are as dense and as strong as the concept's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from vlm.answer_batches import Question, Sample
from vlm.concepts import resolve
from vlm.edits import MAX_K, Edit
from vlm.steering_evaluation.control_features import matched_features
from vlm.steering_evaluation.wishes import Strength, Way, Wish, edits_of


@dataclass(frozen=True)
class RandomFeatures:
    """Draws of random features; each draw gives the same ones for the same edits."""

    atlas: FeatureAtlas
    encode_text: Callable[[list[str]], Tensor]
    seed: int
    _drawn: dict[tuple[int, tuple[Edit, ...]], tuple[Edit, ...]] = field(
        default_factory=dict, repr=False
    )

    def way(self, draw: int, strength_of: Callable[[str], Strength]) -> Way:
        """The product's edits with their features exchanged, by one draw."""

        def way(wish: Wish, sample: Sample) -> Question:
            edits = edits_of(wish, strength_of(wish.concept))
            return Question(sample, edits=self.exchanged(draw, edits))

        return way

    def exchanged(self, draw: int, edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
        """Edits on random features, none of them twice and none of the concepts' own."""
        key = (draw, edits)
        if key not in self._drawn:
            self._drawn[key] = self._draw(draw, edits)
        return self._drawn[key]

    def _draw(self, draw: int, edits: Sequence[Edit]) -> tuple[Edit, ...]:
        resolved = resolve(edits, self.atlas, self.encode_text)
        # An ablation finds the best of its pool; as a control MAX_K are ablated, which is no less.
        own = [tuple(c.feature for c in item.pool[:MAX_K]) or item.features for item in resolved]
        taken = {feature for features in own for feature in features}
        # Seeded by the edits too: concepts with features in common must not share their controls.
        rng = np.random.default_rng([self.seed, draw, *sorted(taken)])
        out = []
        for edit, features in zip(edits, own, strict=True):
            for feature in matched_features(self.atlas, features, taken, rng):
                taken.add(feature)
                out.append(Edit(edit.op, feature=feature, value=edit.value))
        return tuple(out)
