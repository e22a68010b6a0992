"""An archive to search by what its photographs show, in one DuckDB file.

    python searchable_archive.py build PHOTOS ARCHIVE_FOLDER
    python searchable_archive.py find ARCHIVE_FOLDER WORD

Needs ``pip install duckdb``. ``build`` captions the photographs and keeps their features (run again, it
takes in what is new); ``find`` lists those in which features of that name are strongest. The tables can
be asked anything else, too: ``duckdb ARCHIVE_FOLDER/archive.duckdb``.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.parquet

MODEL = "sparsight-mini"
TABLES = """
CREATE OR REPLACE TABLE photograph AS
  SELECT path, sha256, captions[1].caption AS caption FROM read_parquet('{parquet}/*.parquet');
CREATE OR REPLACE TABLE activation AS
  SELECT path, unnest(code.features) AS feature, unnest(code.activations) AS activation
  FROM read_parquet('{parquet}/*.parquet');
CREATE OR REPLACE TABLE feature AS SELECT * FROM read_parquet('{features}');
"""
# An activation in multiples of its feature's 99th percentile, so that features can be compared.
FIND = """
SELECT path, caption, max(activation / p99) AS strength
FROM activation JOIN feature USING (feature) JOIN photograph USING (path)
WHERE name = lower(?) GROUP BY path, caption ORDER BY strength DESC, path LIMIT 20
"""


def build(photos: str, archive: Path) -> None:
    """Captions what is new, then makes the tables anew from the parquet."""
    archive.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["sparsight", "caption", photos, "--model", MODEL, "--codes",
         "--out", archive / "captions.jsonl", "--parquet", archive / "parquet"]
    )  # fmt: skip
    if done.returncode not in (0, 1):  # 1: some photographs are bad, and were named
        sys.exit(done.returncode)
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder) / "features.parquet"
        pyarrow.parquet.write_table(named_features(), features)
        with duckdb.connect(archive / "archive.duckdb") as base:
            base.execute(TABLES.format(parquet=archive / "parquet", features=features))


def named_features() -> pyarrow.Table:
    """Each live feature's index, name and 99th percentile."""
    from sparse_encoder import FeatureAtlas
    from vlm.model_folder import read_model

    model = read_model(MODEL)
    atlas = FeatureAtlas.load(model.path / "features", fingerprint=model.fingerprint)
    live = [i for i, dead in enumerate(atlas.dead) if not dead]
    names = [atlas.names[i].lower() for i in live]
    return pyarrow.table({"feature": live, "name": names, "p99": atlas.p99[live]})


def find(archive: Path, word: str) -> None:
    """Strongest first: strength, path and caption, parted by tabs."""
    with duckdb.connect(archive / "archive.duckdb", read_only=True) as base:
        found = base.execute(FIND, [word]).fetchall()
    for path, caption, strength in found:
        print(f"{strength:.2f}", path, caption, sep="\t")
    if not found:
        sys.exit(
            f"no photograph has a feature called {word}; `sparsight features search` has names"
        )


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(sys.argv[2], Path(sys.argv[3]))
    else:
        find(Path(sys.argv[2]), sys.argv[3])
