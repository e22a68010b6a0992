"""Concepts to features: who is known, who gets which feature, and what a dose is in raw units."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from vlm.concepts import resolve
from vlm.edits import Edit
from vlm.known_concepts import UnknownConceptError, closest
from vlm.share_out import same_place

Encode = Callable[[list[str]], Tensor]
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)

# (edits, a word of the message, offending key)
BAD: list[tuple[list[Edit], str, str]] = [
    ([Edit("ablate", "dgo")], "closest: dog", "edits[0].concept"),
    ([Edit("ablate", "dog"), Edit("clamp", "wman")], "closest: woman, man", "edits[1].concept"),
    ([Edit("ablate", "qqqq")], "none comes close", "edits[0].concept"),
    ([Edit("ablate", "hot dgo")], "no concept named 'hot dgo'", "edits[0].concept"),
    ([Edit("ablate", "phantom")], "no live feature", "edits[0].concept"),
    ([Edit("ablate", "room")], "at most 30% of images", "edits[0].concept"),
    ([Edit("ablate", "hot")], "no live feature", "edits[0].concept"),
    ([Edit("ablate", feature=5)], "dead", "edits[0].feature"),
    ([Edit("ablate", feature=12)], "outside 0..11", "edits[0].feature"),
    ([Edit("ablate", feature=-1)], "outside 0..11", "edits[0].feature"),
    ([Edit("clamp", feature=0, value=8.1, unit="raw")], "8.1 p99 of feature 0", "edits[0].value"),
    ([Edit("add", "cat", value=9.7, unit="raw")], "8.82 p99 of feature 1", "edits[0].value"),
    ([Edit("ablate", "hot")] * 65, "65 edits", "edits"),
    ([Edit("ablate", "dog"), Edit("clamp", " DOG ")], "0 and 1 both", "edits[1].concept"),
    (
        [Edit("ablate", feature=3), Edit("scale", feature=3, value=2.0)],
        "edits 0 (#3) and 1 (#3) both touch feature 3",
        "edits[1].feature",
    ),
    (
        [Edit("ablate", feature=2), Edit("clamp", "cat")],
        "edits 0 (#2) and 1 (cat) both touch feature 2",
        "edits[1].concept",
    ),
    (
        [Edit("clamp", "cat", image=1), Edit("ablate", feature=2, region=LEFT)],
        "edits 0 (cat) and 1 (#2) both touch feature 2",
        "edits[1].feature",
    ),
]


@pytest.mark.parametrize(("edits", "word", "key"), BAD)
def test_an_edit_that_cannot_be_carried_out_is_refused(
    edits: list[Edit], word: str, key: str, tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    with pytest.raises(SparsightError) as caught:
        resolve(edits, tiny_atlas, fake_encode_text)
    assert word in str(caught.value)
    assert caught.value.param == f"steering.{key}"


def test_an_unknown_concept_has_its_own_error_and_code(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    with pytest.raises(UnknownConceptError) as caught:
        resolve([Edit("ablate", "dgo")], tiny_atlas, fake_encode_text)
    assert caught.value.code == "unknown_concept"


def test_more_than_256_touched_features_are_refused(fake_encode_text: Encode) -> None:
    n = 300
    ones = np.ones(n, dtype=np.float32)
    words = [f"word{i}" for i in range(20)]
    atlas = FeatureAtlas(
        "f", [""] * n, [[]] * n, ones, ones / 20, ones, ones, ones, ones, ones, frozenset(words)
    )

    def encode(texts: list[str]) -> Tensor:
        codes = torch.zeros(len(texts), n)
        for row, text in zip(codes, texts, strict=True):
            i = int(text.strip(".").split("word")[1])
            row[i * 15 : i * 15 + 15] = 1.0
        return codes

    edits = [Edit("ablate", word, k=16) for word in words]
    with pytest.raises(SparsightError, match="touch 270 features, at most 256") as caught:
        resolve(edits[:18], atlas, encode)
    assert caught.value.param == "steering.edits"
    assert len(resolve(edits[:17], atlas, encode)) == 17


@pytest.mark.parametrize(
    ("concept", "features"),
    [
        ("dog", (0, 2, 8)),  # dead 5 and too common 6 are left out
        ("  DOG ", (0, 2, 8)),
        ("cat", (1, 2, 9)),
        ("fire truck", (7,)),  # every word known, and a feature's name
        ("hot-t", None),  # hyphenated, both halves known, no feature
        ("truck  fire", (7,)),
    ],
)
def test_a_concept_becomes_its_strongest_live_features(
    concept: str,
    features: tuple[int, ...] | None,
    tiny_atlas: FeatureAtlas,
    fake_encode_text: Encode,
) -> None:
    if features is None:
        with pytest.raises(SparsightError, match="no feature to edit"):
            resolve([Edit("ablate", concept)], tiny_atlas, fake_encode_text)
        return
    (found,) = resolve([Edit("ablate", concept)], tiny_atlas, fake_encode_text)
    assert found.features == features
    assert found.names == tuple(tiny_atlas.names[i] for i in features)


def test_a_name_of_the_atlas_is_a_concept_though_its_words_are_unknown(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    atlas = replace(tiny_atlas, vocabulary=frozenset({"dog"}))
    (found,) = resolve([Edit("ablate", "fire truck")], atlas, fake_encode_text)
    assert found.features == (7,)


def test_k_limits_the_features(tiny_atlas: FeatureAtlas, fake_encode_text: Encode) -> None:
    (found,) = resolve([Edit("ablate", "dog", k=2)], tiny_atlas, fake_encode_text)
    assert found.features == (0, 2)


@pytest.mark.parametrize(
    ("edits", "pools"),
    [
        ([Edit("ablate", "dog", k=1)], [(0, 2, 8)]),
        ([Edit("ablate", "dog", k=3)], [()]),  # there is no further one
        ([Edit("ablate", "dog")], [()]),  # as many as there are anyway
        ([Edit("clamp", "dog", value=1.0, k=1), Edit("scale", "cat", value=0.0, k=1)], [(), ()]),
        ([Edit("ablate", "dog", k=1), Edit("ablate", feature=2)], [(0, 8), ()]),
        ([Edit("ablate", "dog", k=1), Edit("clamp", "cat", value=1.0, k=2)], [(0, 8), ()]),
        ([Edit("ablate", "dog", k=1), Edit("ablate", "cat", k=1)], [(0, 8), (1, 2, 9)]),
        ([Edit("ablate", "man", k=1), Edit("ablate", "woman", k=1)], [(3, 10), ()]),
        # What another photograph's edit has is free here; another region's is not.
        (
            [Edit("ablate", "dog", k=1, image=0), Edit("ablate", feature=2, image=1)],
            [(0, 2, 8), ()],
        ),
        (
            [Edit("ablate", "dog", k=1, region=LEFT), Edit("ablate", feature=2, region=RIGHT)],
            [(0, 8), ()],
        ),
    ],
)
def test_an_ablated_concept_has_a_pool_of_what_no_other_edit_has(
    edits: list[Edit],
    pools: list[tuple[int, ...]],
    tiny_atlas: FeatureAtlas,
    fake_encode_text: Encode,
) -> None:
    found = resolve(edits, tiny_atlas, fake_encode_text)
    assert [tuple(c.feature for c in item.pool) for item in found] == pools
    for item in found:
        assert [(c.feature, c.name) for c in item.pool[: len(item.features)]] == [
            *zip(item.features, item.names, strict=True)
        ][: len(item.pool)]
    if pools[0] == (0, 2, 8):
        assert [c.text for c in found[0].pool] == pytest.approx([1.0, 0.5, 0.3])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_shared_feature_goes_to_the_concept_with_the_larger_activation(
    order: tuple[int, int], tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    edits = [Edit("ablate", "dog", k=2), Edit("clamp", "cat", value=1.0, k=2)]
    found = resolve([edits[i] for i in order], tiny_atlas, fake_encode_text)
    features = {item.edit.concept: item.features for item in found}
    assert features == {"dog": (0, 8), "cat": (1, 2)}  # the dog takes its next best for 2


@pytest.mark.parametrize("order", [("man", "woman"), ("woman", "man")])
def test_a_tie_for_a_feature_goes_to_the_earlier_edit(
    order: tuple[str, str], tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    found = resolve([Edit("ablate", name) for name in order], tiny_atlas, fake_encode_text)
    assert [10 in item.features for item in found] == [True, False]


def test_a_concept_that_loses_all_its_features_is_refused(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    edits = [Edit("clamp", "fire", value=1.0), Edit("ablate", "truck")]
    with pytest.raises(SparsightError, match="stronger claim") as caught:
        resolve(edits, tiny_atlas, fake_encode_text)
    assert (caught.value.param, caught.value.code) == ("steering.edits[0].concept", "no_feature")


@pytest.mark.parametrize(
    "apart", [({"region": LEFT}, {"region": RIGHT}), ({"image": 0}, {"image": 1})]
)
def test_edits_in_different_places_may_share_features(
    apart: tuple[dict[str, Any], dict[str, Any]],
    tiny_atlas: FeatureAtlas,
    fake_encode_text: Encode,
) -> None:
    edits = [Edit("ablate", "dog", **apart[0]), Edit("clamp", "dog", value=1.0, **apart[1])]
    found = resolve(edits, tiny_atlas, fake_encode_text)
    assert [item.features for item in found] == [(0, 2, 8), (0, 2, 8)]


@pytest.mark.parametrize(
    ("edit", "raw", "p99"),
    [
        (Edit("clamp", feature=2, value=2.0), 2.4, 2.0),
        (Edit("add", feature=2, value=0.6, unit="raw"), 0.6, 0.5),
        (Edit("clamp", "truck", value=1.0), 1.7, 1.0),
        (Edit("scale", feature=2, value=1.5), 1.5, 1.5),
        (Edit("ablate", feature=2), 0.0, 0.0),
    ],
)
def test_doses_are_given_in_both_units(
    edit: Edit, raw: float, p99: float, tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    (found,) = resolve([edit], tiny_atlas, fake_encode_text)
    assert found.raw_values == pytest.approx((raw,))
    assert found.p99_values == pytest.approx((p99,))


def test_the_largest_dose_is_allowed_in_both_units(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    for feature in (0, 1, 2, 3):
        most = 8 * float(tiny_atlas.p99[feature])
        edit = Edit("clamp", feature=feature, value=most, unit="raw")
        assert resolve([edit], tiny_atlas, fake_encode_text)[0].p99_values == (8.0,)


def test_all_concepts_are_encoded_in_one_call_and_features_in_none(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    calls: list[list[str]] = []

    def counting(texts: list[str]) -> Tensor:
        calls.append(texts)
        return fake_encode_text(texts)

    resolve([Edit("ablate", feature=0)], tiny_atlas, counting)
    assert calls == []
    resolve([Edit("ablate", "dog"), Edit("clamp", "cat", value=1.0)], tiny_atlas, counting)
    assert calls == [["dog", "a photo of a dog.", "cat", "a photo of a cat."]]


def test_no_edits_resolve_to_none(tiny_atlas: FeatureAtlas, fake_encode_text: Encode) -> None:
    assert resolve([], tiny_atlas, fake_encode_text) == ()


def test_closest_offers_at_most_three_names(tiny_atlas: FeatureAtlas) -> None:
    assert closest("dogg", tiny_atlas)[:2] == ["dog", "dogs"]
    assert len(closest("dogg", tiny_atlas)) <= 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Edit("ablate", "dog"), Edit("ablate", "dog", image=1, region=LEFT), True),
        (Edit("ablate", "dog", image=0), Edit("ablate", "dog", image=1), False),
        (Edit("ablate", "dog", region=LEFT), Edit("ablate", "dog", region=RIGHT), False),
        (Edit("ablate", "dog", region=LEFT), Edit("ablate", "dog", region=(0.4, 0, 1, 1)), True),
    ],
)
def test_places_overlap_where_image_and_area_do(one: Edit, other: Edit, same: bool) -> None:
    assert same_place(one, other) is same_place(other, one) is same


def test_a_feature_that_gets_stronger_in_images_goes_first(
    tiny_atlas: FeatureAtlas, fake_encode_text: Encode
) -> None:
    plain = resolve([Edit(op="ablate", concept="dog", k=3)], tiny_atlas, fake_encode_text)
    assert plain[0].features[0] == 0
    strong = tiny_atlas.p99.copy()
    strong[2] = 10.0  # half the text activation of feature 0, ten times its strength in images
    other = replace(tiny_atlas, p99=strong)
    assert (
        resolve([Edit(op="ablate", concept="dog", k=3)], other, fake_encode_text)[0].features[0]
        == 2
    )


@given(st.integers(0, 2**32 - 1))
def test_no_concept_runs_out_of_wishes_before_it_would_with_all_of_them(seed: int) -> None:
    """The limit on wishes leaves the sharing out as it is with every positive claim."""
    n = 200
    rng = np.random.default_rng(seed)
    ones = np.ones(n, dtype=np.float32)
    atlas = FeatureAtlas(
        fingerprint="f" * 64, names=[""] * n, runner_up=[[] for _ in range(n)], name_score=ones,
        density=0.1 * ones, p50=ones, p90=ones, p99=ones, max=ones, modality=ones,
        vocabulary=frozenset({"one", "two", "three"}),
    )  # fmt: skip
    # Nearly the same claims: all three ask for the same features, far down the list.
    base = rng.random(n)
    code = {
        word: torch.from_numpy(base + 0.01 * rng.random(n)).float()
        for word in ("one", "two", "three")
    }

    def encode(texts: list[str]) -> Tensor:
        return torch.stack([code[text.removeprefix("a photo of a ").strip(".")] for text in texts])

    ks = rng.integers(1, 17, 3).tolist()
    edits = [Edit("clamp", word, value=1.0, k=k) for word, k in zip(code, ks, strict=True)]
    found = resolve(edits, atlas, encode)
    taken: set[int] = set()
    assert [len(item.features) for item in found] == ks
    for item in found:
        assert taken.isdisjoint(item.features)
        taken.update(item.features)
    # No feature left over is wanted more by an edit than one that it holds.
    for item, word in zip(found, code, strict=True):
        claim = code[word].numpy()
        least = min(claim[list(item.features)])
        better = [i for i in range(n) if claim[i] > least and i not in item.features]
        for i in better:
            holder = next(o for o, other in enumerate(found) if i in other.features)
            assert code[list(code)[holder]][i] >= code[word][i]
