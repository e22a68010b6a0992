"""Random features that stand in for a concept's own as a control."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError

N_DECILES = 10
N_NEAREST = 16  # candidates of like activation, among which chance decides


def matched_features(
    atlas: FeatureAtlas,
    features: Sequence[int],
    taken: Collection[int],
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """A random live feature for each given one: same decile of density, like median activation.

    None of them is in taken or drawn twice. Activations are compared by their median, which the
    atlas keeps, in place of the mean. Where a decile runs out, all live features are candidates.
    Raises SparsightError if there are too few live features.
    """
    live = np.flatnonzero(~atlas.dead)
    edges = np.quantile(atlas.density[live], np.linspace(0, 1, N_DECILES + 1)[1:-1])
    decile_of_live = np.searchsorted(edges, atlas.density[live], side="right")
    free = set(live.tolist()) - set(taken) - set(features)
    drawn: list[int] = []
    for feature in features:
        decile = int(np.searchsorted(edges, atlas.density[feature], side="right"))
        same = [i for i in live[decile_of_live == decile].tolist() if i in free] or sorted(free)
        if not same:
            raise SparsightError(
                f"{len(live)} live features are too few for a random control of {len(features)}"
            )
        choice = int(rng.choice(nearest(same, atlas.p50, float(atlas.p50[feature]))))
        drawn.append(choice)
        free.discard(choice)
    return tuple(drawn)


def nearest(
    candidates: Sequence[int], activation: NDArray[np.floating], wanted: float
) -> list[int]:
    """The N_NEAREST candidates whose activation is closest to the wanted one."""
    return sorted(candidates, key=lambda i: (abs(float(activation[i]) - wanted), i))[:N_NEAREST]
