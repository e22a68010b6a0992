"""Which features are named for kinds of a concept, and what an ablation makes of them."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from vlm.concepts import resolve
from vlm.edits import Edit
from vlm.kinds import features_of_kinds

NAMES = [
    "beagle", "Dog", "cat", "ferry", "ferry", "ketch", "dalmatian", "scorpion",
    "guy", "player", "", "puppy", "mitten",
]  # fmt: skip


def atlas_of(
    names: Sequence[str], dead: Sequence[int] = (), dense: Sequence[int] = ()
) -> FeatureAtlas:
    n = len(names)
    ones = np.ones(n, dtype=np.float32)
    p99, density = ones.copy(), 0.1 * ones
    p99[list(dead)], density[list(dead)] = 0, 0
    density[list(dense)] = 0.9
    return FeatureAtlas(
        fingerprint="f" * 64, names=list(names), runner_up=[[] for _ in names],
        name_score=np.arange(n, 0, -1, dtype=np.float32), density=density, p50=p99, p90=p99,
        p99=p99, max=p99, modality=ones,
        vocabulary=frozenset({"dog", "animal", "watercraft", "person", "kludgeword"}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("concept", "answering", "found"),
    [
        ("dog", (), [0, 1]),  # "puppy" is a conceited person, too
        ("dog", (11,), [0, 1, 11]),
        ("animal", (), [0, 7]),  # most meanings of "cat" are no animals
        ("animal", (2,), [0, 2, 7]),
        ("watercraft", (), [5]),  # a ferry is a crossing, too
        ("watercraft", (4,), [3, 4, 5]),  # and both called so are found where one answers
        ("person", (), [9]),  # a dalmatian is a native of Dalmatia, too
        ("person", (6, 7), [6, 9]),  # of the label "scorpion" it is known what it means
        ("mitten", (), [12]),
        ("kludgeword", (0,), []),
    ],
)
def test_names_are_kinds_where_they_mostly_mean_one_or_answer_to_the_word(
    concept: str, answering: tuple[int, ...], found: list[int]
) -> None:
    text = torch.zeros(len(NAMES)).index_fill(0, torch.tensor(answering, dtype=torch.int64), 1.0)
    assert features_of_kinds(concept, atlas_of(NAMES), text) == found


def encode(texts: list[str]) -> Tensor:
    """Codes in which animals answer in the last feature but one, all else in the last."""
    codes = torch.zeros(len(texts), len(NAMES))
    for row, text in zip(codes, texts, strict=True):
        row[-2 if "animal" in text else -1] = 0.5
    return codes


def test_an_ablation_may_take_features_of_kinds_and_any_other_edit_none() -> None:
    atlas = atlas_of(NAMES)
    (found,) = resolve([Edit("ablate", "dog")], atlas, encode)
    assert found.features == (12,)
    assert [(c.feature, c.text) for c in found.pool] == [(12, 0.5), (0, 13.0), (1, 12.0)]
    for edit in (Edit("scale", "dog", value=0.0), Edit("clamp", "dog", value=1.0)):
        assert resolve([edit], atlas, encode)[0].pool == ()


def test_dead_and_dense_features_are_in_no_pool() -> None:
    for atlas in (atlas_of(NAMES, dead=[0]), atlas_of(NAMES, dense=[0])):
        (found,) = resolve([Edit("ablate", "dog")], atlas, encode)
        assert [c.feature for c in found.pool] == [12, 1]


@pytest.mark.parametrize("reverse", [False, True])
def test_no_feature_is_in_the_pools_of_two_edits_of_one_image(reverse: bool) -> None:
    atlas = atlas_of(NAMES)
    edits = [Edit("ablate", "animal", k=1), Edit("ablate", "dog", k=1), Edit("ablate", feature=0)]
    if reverse:
        edits.reverse()
    found = resolve(edits, atlas, encode)
    had = [c.feature for item in found for c in item.pool] + [0]
    assert len(set(had)) == len(had)
    apart = resolve(
        [Edit("ablate", "dog", image=0), Edit("ablate", feature=0, image=1)], atlas, encode
    )
    assert 0 in [c.feature for c in apart[0].pool]
