"""A search ranks as it says, page by page, and neighbours are those of the plain product."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DoseCurve, Doses
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_search.card import feature_card
from sparse_encoder.feature_search.finder import FeatureFinder
from sparse_encoder.feature_search.neighbours import nearest_of_all, row_norms

NAMES = ["dog", "hot dog", "cat", "dog", "ghost", "", "wolf", "doge"]


def an_atlas() -> FeatureAtlas:
    live = np.ones(len(NAMES), dtype=np.float32)
    live[4] = 0  # the ghost is dead
    return FeatureAtlas(
        fingerprint="a" * 64,
        names=NAMES,
        runner_up=[["puppy"], *([] for _ in NAMES[1:])],
        name_score=live,
        density=live / 10,
        p50=live,
        p90=live,
        p99=live * 2,
        max=live,
        modality=live,
        vocabulary=frozenset(),
    )


def encode(texts: list[str]) -> Tensor:
    """A pet is the cat, then the wolf, then the second dog, and the ghost most of all."""
    row = torch.tensor([0.0, 0.0, 4.0, 1.0, 9.0, 0.0, 3.0, 0.0])
    return torch.stack([row if "dog" in text or "pet" in text else 0 * row for text in texts])


WEIGHT = torch.randn(len(NAMES), 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def finder() -> FeatureFinder:
    return FeatureFinder(an_atlas(), encode_texts=encode, head_weight=WEIGHT)


def test_features_called_so_come_first_and_of_them_those_that_the_text_tower_means(
    finder: FeatureFinder,
) -> None:
    page = finder.search("Dog")
    assert [f.feature for f in page.features[:2]] == [3, 0]
    assert {f.match for f in page.features[:2]} == {"equal"}


def test_names_and_text_are_ranked_together_after_them(finder: FeatureFinder) -> None:
    rest = [(f.feature, f.match) for f in finder.search("dog").features[2:]]
    # By name: 3, 0, doge 7, hot dog 1. By text: cat 2, wolf 6, dog 3. 1/61, 1/62, 1/63, 1/64.
    assert rest == [(2, "text"), (6, "text"), (7, "start"), (1, "part")]


def test_a_phrase_that_is_no_name_is_found_by_text_alone(finder: FeatureFinder) -> None:
    found = finder.search("a pet").features
    assert [(f.feature, f.match, f.text) for f in found] == [
        (2, "text", 1.0),
        (6, "text", 0.75),
        (3, "text", 0.25),
    ]


def test_dead_features_are_never_found(finder: FeatureFinder) -> None:
    assert finder.search("ghost").features == ()
    assert 4 not in [f.feature for f in finder.search().features]
    assert 4 not in [n.feature for n in finder.neighbours(0, 99)]


def test_without_a_text_tower_names_are_searched_all_the_same() -> None:
    page = FeatureFinder(an_atlas()).search("dog")
    assert [f.feature for f in page.features] == [0, 3, 7, 1]


@pytest.mark.parametrize("query", [None, "dog"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_after_one_another_are_the_whole_search(
    finder: FeatureFinder, query: str | None, limit: int
) -> None:
    whole = finder.search(query, limit=100)
    pages, cursor = [], None
    while True:
        page = finder.search(query, limit=limit, cursor=cursor)
        assert 0 < len(page.features) <= limit and page.total == len(whole.features)
        pages += page.features
        if (cursor := page.next_cursor) is None:
            break
    assert tuple(pages) == whole.features


@pytest.mark.parametrize("feature", range(len(NAMES)))
def test_neighbours_are_those_of_the_plain_product(finder: FeatureFinder, feature: int) -> None:
    unit = torch.nn.functional.normalize(WEIGHT, dim=1)
    cosine = (unit @ unit.T)[feature]
    cosine[[4, feature]] = -2
    plain = cosine.argsort(descending=True)[:3].tolist()
    found = finder.neighbours(feature, 3)
    assert [n.feature for n in found] == plain
    assert [n.cosine for n in found] == pytest.approx(cosine[plain].tolist(), abs=1e-6)


def test_without_a_head_there_are_no_neighbours() -> None:
    assert FeatureFinder(an_atlas()).neighbours(0) == ()


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": "x" * 10_000}, "query"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
    ],
)
def test_bad_searches_are_refused(
    finder: FeatureFinder, arguments: dict[str, object], param: str
) -> None:
    with pytest.raises(SparsightError) as caught:
        finder.search(**arguments)  # type: ignore[arg-type]
    assert caught.value.param == param


def test_the_cursor_of_another_search_is_refused(finder: FeatureFinder) -> None:
    cursor = finder.search("dog", limit=1).next_cursor
    with pytest.raises(SparsightError, match="another search"):
        finder.search("cat", limit=1, cursor=cursor)


@pytest.mark.parametrize("feature", [-1, len(NAMES)])
def test_a_feature_that_there_is_not_has_no_neighbours(finder: FeatureFinder, feature: int) -> None:
    with pytest.raises(SparsightError, match=r"0\.\.7"):
        finder.neighbours(feature)


def test_parts_of_different_models_are_not_put_together() -> None:
    with pytest.raises(SparsightError, match="different models"):
        FeatureFinder(an_atlas(), head_weight=WEIGHT[:3])
    narrow = FeatureFinder(an_atlas(), encode_texts=lambda texts: encode(texts)[:, :3])
    with pytest.raises(SparsightError, match="different models"):
        narrow.search("dog")


def test_a_card_holds_the_row_of_the_atlas() -> None:
    card = feature_card(an_atlas(), 0)
    assert (card.name, card.runner_up, card.p99, card.dead) == ("dog", ("puppy",), 2.0, False)
    assert feature_card(an_atlas(), 4).dead
    assert card.more == {}


@pytest.mark.parametrize("block", [1, 3, 99])
def test_neighbours_of_all_features_are_those_of_each(finder: FeatureFinder, block: int) -> None:
    allowed = an_atlas().density > 0
    index, cosine = nearest_of_all(WEIGHT, row_norms(WEIGHT), 4, allowed, block)
    for feature in range(len(NAMES)):
        plain = finder.neighbours(feature, 4)
        assert index[feature].tolist() == [n.feature for n in plain]
        assert cosine[feature].tolist() == pytest.approx([n.cosine for n in plain], abs=1e-6)


def test_the_card_of_a_calibrated_feature_has_its_doses() -> None:
    atlas = an_atlas()
    curve = DoseCurve(None, None, 0, "dog", (1.0,), 40, (30,), (0,), 1.0, 1.0, True)
    doses = Doses(atlas.fingerprint, atlas.scales_sha256, {}, (curve,))
    more = feature_card(replace(atlas, doses=doses), 0).more
    assert (more["effective"], more["safe_max"]) == (1.0, 1.0)
    assert "safe_max" not in feature_card(replace(atlas, doses=doses), 1).more
