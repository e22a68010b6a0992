"""Pages say what a build measured: trust, neighbours, maps; and leave out what it did not."""

from base64 import b64decode
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.feature_report.rows import feature_row, table_columns
from sparse_encoder.feature_search.card import feature_card
from sparse_encoder.features.top_images_file import TopImage, TopImages


def plain_atlas() -> FeatureAtlas:
    one = np.ones(3, np.float32)
    return FeatureAtlas(
        fingerprint="a" * 64,
        names=["cat", "dog", ""],
        runner_up=[["kitten"], [], []],
        name_score=one,
        density=one / 2,
        p50=one,
        p90=one * 2,
        p99=one * 3,
        max=one * 4,
        modality=one,
        vocabulary=frozenset(),
    )


def measured_atlas() -> FeatureAtlas:
    one, none = np.ones(3, np.float32), np.full(3, np.nan, np.float32)
    return replace(
        plain_atlas(),
        description=["cat; said of", "dog", "no name"],
        named_by=["images", "text", ""],
        trust=["verified", "unverified", ""],
        trust_positives=np.array([30, 2, 0], np.int32),
        trust_auc=np.array([0.91234567, np.nan, np.nan], np.float32),
        trust_low=np.array([0.8, np.nan, np.nan], np.float32),
        trust_high=np.array([0.95, np.nan, np.nan], np.float32),
        mean=one,
        clarity=none,
        monosemanticity=one,
        name_lift=one,
        near_head=[[1], [0], []],
        near_active=[[2, 1], [], []],
    )


def test_the_table_has_trust_only_where_it_was_tested() -> None:
    assert "trust" not in table_columns(plain_atlas())
    columns = table_columns(measured_atlas())
    assert columns["trust"] == ["verified", "unverified", ""]
    assert columns["trust_low"] == [0.8, None, None]
    assert columns["clarity"] == [None, None, None]


def test_a_view_tells_trust_with_its_interval_and_both_kinds_of_neighbours() -> None:
    atlas = measured_atlas()
    row = feature_row(feature_card(atlas, 0), None, None, None)
    assert row["test"] == [30, 0.9123, 0.95]
    assert row["near"] == [[1, None]] and row["active"] == [2, 1]
    assert (row["description"], row["named_by"]) == ("cat; said of", "images")
    assert set(row["more"]) == {"mean", "name_lift"}
    assert feature_row(feature_card(atlas, 1), None, None, None)["test"] == [2, None, None]


def test_cosines_that_are_given_replace_the_atlas_own_list() -> None:
    row = feature_row(feature_card(measured_atlas(), 0), None, lambda j: [(2, 0.5)], None)
    assert row["near"] == [[2, 0.5]]


def test_an_atlas_of_a_training_run_gives_a_view_without_trust() -> None:
    row = feature_row(feature_card(plain_atlas(), 0), None, None, None)
    assert "test" not in row and "maps" not in row
    assert row["near"] == [] and row["active"] == []


def test_cell_maps_go_in_as_a_byte_a_cell_of_the_strongest() -> None:
    class One:
        grid = (1, 3)

        def of(self, feature: int) -> list[TopImage]:
            return [TopImage("a", "s.tar", 5.0, np.array([[0.0, 2.0, 1.0]], np.float32))] * 9

    top: Any = One()
    maps = feature_row(feature_card(measured_atlas(), 0), None, None, cast(TopImages, top))["maps"]
    assert len(maps) == 4  # the strongest alone
    assert maps[0][:2] == ["a", 5.0]
    assert list(b64decode(maps[0][2])) == [0, 99, pytest.approx(50, abs=1)]
