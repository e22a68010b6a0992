"""The example photographs: there, small, readable, and attributed."""

from pathlib import Path

import pytest

from demo.example_photos import example_photos
from sparse_encoder.image import open_image


@pytest.mark.parametrize("path", example_photos(), ids=lambda path: path.stem)
def test_an_example_is_a_small_readable_photograph_with_its_author_named(path: Path) -> None:
    assert path.stat().st_size <= 100_000
    assert min(open_image(path).size) >= 260  # the trunk's input, so nothing is enlarged
    attribution = path.with_name("ATTRIBUTION.md").read_text(encoding="utf-8")
    assert f"`{path.name}`" in attribution


def test_no_photograph_lies_there_without_attribution() -> None:
    folder = example_photos()[0].parent
    assert {path.name for path in folder.glob("*.jpg")} == {p.name for p in example_photos()}
