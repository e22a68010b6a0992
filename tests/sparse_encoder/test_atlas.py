"""An atlas comes back as it was written, and never for another model."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_encoder.atlas import TABLE_FILE, VOCABULARY_FILE, FeatureAtlas, concept_codes
from sparse_encoder.errors import SparsightError


def an_atlas(n: int = 5) -> FeatureAtlas:
    random = np.random.default_rng(0)
    numbers = {
        key: random.random(n).astype(np.float32)
        for key in ("name_score", "density", "p50", "p90", "p99", "max", "modality")
    }
    numbers["density"][2] = 0.0
    return FeatureAtlas(
        fingerprint="a" * 64,
        names=["dog", "", "Fire Truck", "café", "x"],
        runner_up=[["puppy", "hound"], [], ["lorry"], [], []],
        vocabulary=frozenset({"dog", "fire truck", "café"}),
        **numbers,
    )


def test_a_saved_atlas_loads_equal(tmp_path: Path) -> None:
    atlas = an_atlas()
    atlas.save(tmp_path / "features")
    again = FeatureAtlas.load(tmp_path / "features", fingerprint="a" * 64)
    for field in fields(FeatureAtlas):
        one, other = getattr(atlas, field.name), getattr(again, field.name)
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other
    assert {path.name for path in (tmp_path / "features").iterdir()} == {
        TABLE_FILE,
        VOCABULARY_FILE,
    }


def test_the_same_atlas_gives_the_same_bytes_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_atlas().save(tmp_path / "one")
    monkeypatch.setattr("time.time", lambda: 4e9)
    an_atlas().save(tmp_path / "two")
    for file in (TABLE_FILE, VOCABULARY_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_atlas_of_another_model_is_refused(tmp_path: Path) -> None:
    an_atlas().save(tmp_path)
    with pytest.raises(SparsightError, match="made for model aaaaaaaaaaaa, not for bbbbbbbbbbbb"):
        FeatureAtlas.load(tmp_path, fingerprint="b" * 64)


@pytest.mark.parametrize("file", [TABLE_FILE, VOCABULARY_FILE])
@pytest.mark.parametrize("content", [None, b"", b"not it", "cut"])
def test_a_missing_or_damaged_file_is_refused(
    tmp_path: Path, file: str, content: bytes | str | None
) -> None:
    an_atlas().save(tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(whole[:-9] if isinstance(content, str) else content)
    with pytest.raises(SparsightError, match="atlas") as caught:
        FeatureAtlas.load(tmp_path)
    assert caught.value.code == "bad_atlas"


def test_files_of_two_builds_are_not_mixed(tmp_path: Path) -> None:
    replace(an_atlas(), vocabulary=frozenset({"dog"})).save(tmp_path / "old")
    an_atlas().save(tmp_path / "new")
    (tmp_path / "old" / VOCABULARY_FILE).replace(tmp_path / "new" / VOCABULARY_FILE)
    with pytest.raises(SparsightError, match="different builds"):
        FeatureAtlas.load(tmp_path / "new")


def test_a_feature_is_dead_exactly_where_its_density_is_zero() -> None:
    assert an_atlas().dead.tolist() == [False, False, True, False, False]


def test_known_names_are_lower_case_and_leave_out_the_nameless() -> None:
    assert an_atlas().known_names == {"dog", "fire truck", "café", "x"}


def test_fields_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="p99 has 2 entries for 5 features"):
        replace(an_atlas(), p99=np.ones(2, dtype=np.float32))


def test_a_concept_code_is_the_mean_over_the_templates() -> None:
    def lengths(texts: list[str]) -> Tensor:
        return torch.tensor([[float(len(text)), 1.0] for text in texts])

    # "dog" has 3 characters, "a photo of a dog." 17; "ox" has 2 and 16.
    assert concept_codes(["dog", "ox"], lengths).tolist() == [[10.0, 1.0], [9.0, 1.0]]
