"""A report is whole, opens without a server, and says what the atlas says."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_report import write
from sparse_encoder.feature_report.pictures import TopPictures
from sparse_encoder.feature_report.write import write_report


def an_atlas(n: int = 600) -> FeatureAtlas:
    random = np.random.default_rng(0)
    p50 = random.random(n).astype(np.float32)
    density = random.random(n).astype(np.float32) / 10
    density[3] = 0
    return FeatureAtlas(
        fingerprint="a" * 64,
        names=["</script><b>café\u2028", "", *(f"word {i}" for i in range(2, n))],
        runner_up=[["further"], *([] for _ in range(n - 1))],
        name_score=p50,
        density=density,
        p50=p50,
        p90=p50 * 2,
        p99=p50 * 3,
        max=p50 * 4,
        modality=p50,
        vocabulary=frozenset(),
    )


def read(path: Path) -> list[Any]:
    """The arguments of the one call in a data file."""
    text = path.read_bytes().decode("ascii")
    found = re.fullmatch(r"sparsight\.\w+\((.*)\);\n", text, re.DOTALL)
    assert found is not None
    return list(json.loads(f"[{found[1]}]"))


def test_every_feature_is_in_the_index_and_in_its_chunk(tmp_path: Path) -> None:
    atlas = an_atlas()
    write_report(atlas, tmp_path / "out", "m", neighbours=lambda j: [(j ^ 1, 0.5)])
    (index,) = read(tmp_path / "out" / "data" / "index.js")
    assert index["columns"]["name"] == atlas.names
    assert index["columns"]["density"] == pytest.approx(atlas.density.tolist(), rel=1e-3)
    assert (index["model"], index["fingerprint"], index["chunk"]) == ("m", "a" * 64, write.CHUNK)
    seen = 0
    for number in range(3):
        here, rows = read(tmp_path / "out" / "data" / f"{number:04d}.js")
        assert here == number
        for offset, row in enumerate(rows):
            feature = number * write.CHUNK + offset
            assert row["near"] == [[feature ^ 1, 0.5]]
            seen += 1
            if feature != 3:
                assert row["quantiles"][-1] == [1.0, pytest.approx(atlas.max[feature], rel=1e-3)]
            else:
                assert row["quantiles"] == []
    assert seen == 600


def test_all_that_a_page_loads_is_beside_it_and_nothing_comes_from_elsewhere(
    tmp_path: Path,
) -> None:
    written = write_report(an_atlas(10), tmp_path / "out", "m")
    page = written.page.read_text()
    for source in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert (tmp_path / "out" / source).is_file(), source
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert (written.n_files, written.n_bytes) == (len(files), sum(f.stat().st_size for f in files))
    for path in files:
        assert not re.search(r"https?:|fetch\(|XMLHttp|innerHTML", path.read_text()), path


def test_pictures_go_in_with_the_cells_of_their_features(tmp_path: Path) -> None:
    pictures = TopPictures(10, grid=(1, 2))
    rows = torch.zeros(3, 10)
    rows[:, 4] = torch.tensor([2.0, 0.0, 6.0])
    pictures.add(Image.new("RGB", (20, 10), "red"), Codes.from_dense(rows, (1, 2)))
    write_report(an_atlas(10), tmp_path / "out", "m", pictures=pictures)
    _, chunk = read(tmp_path / "out" / "data" / "0000.js")
    assert chunk[4]["pictures"] == [[0, 2.0, [0, 99]]]
    assert chunk[5]["pictures"] == []
    with Image.open(tmp_path / "out" / "pictures" / "0.jpg") as picture:
        assert picture.size == (20, 10)


def test_numbers_that_are_none_are_null(tmp_path: Path) -> None:
    atlas = replace(an_atlas(4), name_score=np.array([1, np.nan, 2, 3], dtype=np.float32))
    write_report(atlas, tmp_path / "out", "m")
    (index,) = read(tmp_path / "out" / "data" / "index.js")
    assert index["columns"]["name_score"] == [1.0, None, 2.0, 3.0]


def test_a_report_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_report(an_atlas(300), tmp_path / "out", "old")
    with pytest.raises(SparsightError, match="--force"):
        write_report(an_atlas(10), tmp_path / "out", "new")
    write_report(an_atlas(10), tmp_path / "out", "new", overwrite=True)
    assert not (tmp_path / "out" / "data" / "0001.js").exists()
    assert read(tmp_path / "out" / "data" / "index.js")[0]["model"] == "new"


def test_a_folder_of_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SparsightError, match="other files"):
        write_report(an_atlas(4), tmp_path, "m", overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(SparsightError, match="is a file"):
        write_report(an_atlas(4), tmp_path / "thesis.tex", "m", overwrite=True)


def test_a_report_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(write, "feature_row", full)
    with pytest.raises(SparsightError, match="no space left"):
        write_report(an_atlas(4), tmp_path / "out", "m")
    assert list(tmp_path.iterdir()) == []
