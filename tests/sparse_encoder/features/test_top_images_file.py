"""The strongest images of a feature are read as they were written, and only for their model."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sparse_encoder.errors import SparsightError
from sparse_encoder.features.top_images import TOP_FILE, top_table
from sparse_encoder.features.top_images_file import read_top_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Feature 0 is strongest on b, then a; feature 2 on a alone. One row of two cells."""
    maps = {
        "feature": np.array([2, 0, 0], np.int32),
        "rank": np.array([0, 1, 0], np.int32),
        "id": np.array(["a", "a", "b"]),
        "cells": np.array([[0, 255], [255, 0], [255, 51]], np.uint8),
        "scale": np.array([2.0, 3.0, 10.0], np.float32),
    }
    activation = np.array([[9.0, 8.0], [0.0, 0.0], [7.0, 0.0]], np.float32)
    table = top_table([maps], ["s.tar"], activation, "f" * 64, (1, 2))
    pq.write_table(table, tmp_path / TOP_FILE)
    return tmp_path


def test_images_come_strongest_first_with_raw_activations_of_their_cells(folder: Path) -> None:
    found = read_top_images(folder, "f" * 64)
    assert found is not None and found.grid == (1, 2)
    first, second = found.of(0)
    assert (first.id, first.shard, first.activation) == ("b", "s.tar", 9.0)
    assert first.cells.tolist() == [[10.0, pytest.approx(2.0)]]
    assert (second.id, second.activation) == ("a", 8.0)
    assert found.of(1) == []
    assert [image.id for image in found.of(2)] == ["a"]


def test_an_atlas_may_come_without(tmp_path: Path) -> None:
    assert read_top_images(tmp_path, "f" * 64) is None


def test_those_of_another_model_and_damaged_ones_are_refused(folder: Path) -> None:
    with pytest.raises(SparsightError, match="made for model ffffffffffff") as refused:
        read_top_images(folder, "0" * 64)
    assert refused.value.code == "other_fingerprint"
    path = folder / TOP_FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SparsightError, match="is not readable"):
        read_top_images(folder, "f" * 64)
