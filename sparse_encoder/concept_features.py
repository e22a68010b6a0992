"""Which features stand for a concept, by the photographs that show it: kept beside the atlas.

One file, ``concepts.parquet``, one row a concept; how they are chosen: features/concept_choice.py. Feature
numbers belong to one model, so its fingerprint is inside.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import replace_file

CONCEPTS_FILE = "concepts.parquet"
ConceptFeatures = Mapping[str, tuple[int, ...]]  # lower-case concept -> features, best first
# A feature that is active on more images than this belongs to no one concept. A tenth, the usual
# cut, drops the main features of common things: with it, ablating the 16 best features of "dog" left
# 86 % of the similarity of dog photographs to the word, with three tenths 33 % (cat: 74 and 10 %).
MAX_DENSITY = 0.30
_SCHEMA = pa.schema({"concept": pa.string(), "features": pa.list_(pa.int32())})


def save_concepts(concepts: ConceptFeatures, folder: Path, fingerprint: str) -> None:
    """Writes ``concepts.parquet`` in a folder that is there, whole or not at all."""
    rows = [{"concept": name, "features": list(concepts[name])} for name in sorted(concepts)]
    table = pa.Table.from_pylist(rows, _SCHEMA).replace_schema_metadata(
        {"fingerprint": fingerprint}
    )
    path = folder / CONCEPTS_FILE
    replace_file(path, lambda aside: pq.write_table(table, aside, compression="zstd"))


def load_concepts(folder: Path, fingerprint: str, n_features: int) -> ConceptFeatures | None:
    """What lies in the folder, None where nothing does. Raises SparsightError for damage, and for a
    table of another model."""
    path = folder / CONCEPTS_FILE
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        found = table.schema.metadata[b"fingerprint"].decode()
        concepts = {row["concept"]: tuple(row["features"]) for row in table.to_pylist()}
        numbers = {feature for features in concepts.values() for feature in features}
        if not numbers <= set(range(n_features)):
            raise ValueError(f"feature {max(numbers)} of {n_features}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SparsightError(
            f"{path} is no readable table of concepts ({error}); delete it, or build the atlas again",
            code="bad_atlas",
        ) from error
    if found != fingerprint:
        raise SparsightError(
            f"{path} was made for model {found[:12]}, not for {fingerprint[:12]}: its feature "
            "numbers mean other things here; build the atlas again",
            code="other_fingerprint",
        )
    return concepts


def concepts_sha256(concepts: ConceptFeatures) -> str:
    """Digest of the whole table."""
    rows = [[name, list(concepts[name])] for name in sorted(concepts)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
