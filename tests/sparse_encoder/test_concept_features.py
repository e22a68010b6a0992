"""The table of concepts beside an atlas: what is read is what was written, and damage is told of."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparse_encoder.concept_features import (
    CONCEPTS_FILE,
    concepts_sha256,
    load_concepts,
    save_concepts,
)
from sparse_encoder.errors import SparsightError

CONCEPTS = {"dog": (3, 1, 2), "cat": (0,), "hot dog": (7, 3)}


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_concepts(CONCEPTS, tmp_path, "f")
    assert load_concepts(tmp_path, "f", 8) == CONCEPTS
    assert load_concepts(tmp_path / "elsewhere", "f", 8) is None


def test_the_digest_knows_order_of_features_and_not_of_concepts() -> None:
    other_way = dict(reversed(CONCEPTS.items()))
    assert concepts_sha256(other_way) == concepts_sha256(CONCEPTS)
    assert concepts_sha256({**CONCEPTS, "dog": (1, 3, 2)}) != concepts_sha256(CONCEPTS)


@pytest.mark.parametrize(
    ("fingerprint", "n_features", "code", "word"),
    [("g", 8, "other_fingerprint", "for model f, not for g"), ("f", 7, "bad_atlas", "7 of 7")],
)
def test_a_table_of_another_model_is_refused(
    tmp_path: Path, fingerprint: str, n_features: int, code: str, word: str
) -> None:
    save_concepts(CONCEPTS, tmp_path, "f")
    with pytest.raises(SparsightError, match=word) as caught:
        load_concepts(tmp_path, fingerprint, n_features)
    assert caught.value.code == code


@pytest.mark.parametrize("content", [b"", b"no parquet"])
def test_a_damaged_table_is_told_of(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONCEPTS_FILE).write_bytes(content)
    with pytest.raises(SparsightError, match="delete it, or build the atlas again"):
        load_concepts(tmp_path, "f", 8)


def test_a_table_with_other_columns_is_told_of(tmp_path: Path) -> None:
    table = pa.table({"word": ["dog"]}).replace_schema_metadata({"fingerprint": "f"})
    pq.write_table(table, tmp_path / CONCEPTS_FILE)
    with pytest.raises(SparsightError, match=CONCEPTS_FILE):
        load_concepts(tmp_path, "f", 8)
