"""`sparsight features show` tells what a build measured, in words."""

from typing import Any

import pytest

from serving.cli.feature_sheet import feature_sheet, trust_words
from serving.features.wire import FeatureDetail, FeatureTopImage

TESTED = {
    "description": "cat, kitten",
    "named_by": "images",
    "trust": "verified",
    "trust_positives": 30,
    "trust_auc": 0.91,
    "trust_low": 0.8,
    "trust_high": 0.95,
}


def sheet(more: dict[str, Any], top_images: list[FeatureTopImage]) -> list[str]:
    detail = FeatureDetail(
        fingerprint="f" * 64,
        feature=0,
        name="cat",
        runner_up=["kitten"],
        name_score=1.0,
        density=0.5,
        p50=1.0,
        p90=2.0,
        p99=3.0,
        max=4.0,
        modality=0.5,
        dead=False,
        neighbours=[],
        top_images=top_images,
        more=more,
    )
    return feature_sheet(detail, ["cat", "", "lion"]).splitlines()


def test_each_fact_of_a_built_atlas_has_a_line_in_words() -> None:
    image = FeatureTopImage(id="a7", shard="s.tar", activation=5, grid=(9, 9), strongest=(3, 4))
    more = {**TESTED, "mean": 1.5, "clarity": None, "near_head": [2], "near_active": [2, 1]}
    lines = sheet(more, [image] * 9)
    assert sum(line.startswith("strongest on") for line in lines) == 4
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "activations p50 1.000, p90 2.000, p99 3.000, mean 1.500" in text
    assert "trust verified: AUC 0.910 (0.800 to 0.950) on 30 held-out images" in text
    assert "active with it #2 lion, #1" in text
    assert "strongest on 5.000 a7, strongest in row 4, column 5 of 9 x 9" in text
    assert "clarity not measured" in text
    assert "trust_low" not in text and "near head" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trust": ""}, "no name to test"),
        ({"trust": "unverified", "trust_auc": None, "trust_positives": 2}, "too few to tell"),
        ({"named_by": "text"}, "named by the text tower"),
        ({"trust": "doubtful", "trust_low": 0.6}, "doubtful: AUC 0.910 (0.600 to 0.950)"),
    ],
)
def test_trust_is_told_with_what_it_rests_on(change: dict[str, Any], words: str) -> None:
    assert words in trust_words({**TESTED, **change})


def test_an_atlas_of_a_training_run_has_no_line_of_trust() -> None:
    assert not any(line.startswith("trust") for line in sheet({"trust": None, "mean": None}, []))
