"""A model's features as a folder that opens from disk: one page, and data as scripts.

A page from disk may not fetch files, but it may load scripts: each data file is one call with JSON in
it. ``data/index.js`` has what the table and the scatter show of every feature; ``data/0012.js`` has the
rest of `CHUNK` features, loaded when one of them is opened. So a report of any size opens at once.
"""

import json
import os
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_report.pictures import TopPictures
from sparse_encoder.feature_report.rows import Neighbours, feature_row, table_columns
from sparse_encoder.feature_search.card import feature_card
from sparse_encoder.features.top_images_file import TopImages

CHUNK = 256  # features a data file, about 80 kB
INDEX = "data/index.js"
_PAGE = ("index.html", "report.css", "report.js", "plots.js")


@dataclass(frozen=True)
class WrittenReport:
    """What a report takes on disk."""

    page: Path
    n_files: int
    n_bytes: int


def write_report(
    atlas: FeatureAtlas,
    folder: Path,
    model: str,
    *,
    pictures: TopPictures | None = None,
    neighbours: Neighbours | None = None,
    top_images: TopImages | None = None,
    overwrite: bool = False,
) -> WrittenReport:
    """Writes the report to `folder`, whole or not at all.

    pictures: of images that may be shown; without them features have none. top_images: of the
    reference images, whose cell maps go in without the images. Raises SparsightError
    where the folder holds something (with `overwrite`: something that is no report), or where it
    cannot be written.
    """
    _refuse_occupied(folder, overwrite)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        (aside / "data").mkdir(parents=True)
        for name in _PAGE:
            (aside / name).write_bytes(files(__package__).joinpath("page", name).read_bytes())
        _script(aside / INDEX, "index", _index(atlas, model, pictures, top_images))
        for start in range(0, atlas.n_features, CHUNK):
            stop = min(start + CHUNK, atlas.n_features)
            rows = [
                feature_row(feature_card(atlas, j), pictures, neighbours, top_images)
                for j in range(start, stop)
            ]
            _script(aside / f"data/{start // CHUNK:04d}.js", "chunk", start // CHUNK, rows)
        if pictures is not None:
            (aside / "pictures").mkdir()
            for i, picture in enumerate(pictures.thumbnails):
                picture.save(aside / f"pictures/{i}.jpg", quality=85)
        if folder.exists():
            shutil.rmtree(folder)
        aside.replace(folder)
    except OSError as error:
        raise SparsightError(
            f"cannot write the report to {folder}: {error}", param="out"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return WrittenReport(folder / "index.html", len(sizes), sum(sizes))


def _refuse_occupied(folder: Path, overwrite: bool) -> None:
    if folder.is_file():
        raise SparsightError(f"{folder} is a file; give a folder", param="out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / INDEX).is_file():  # never remove what we did not write
        raise SparsightError(
            f"{folder} holds other files; give a new folder for the report", param="out"
        )
    if not overwrite:
        raise SparsightError(
            f"{folder} holds a report already; --force replaces it, or give a new folder",
            param="out",
        )


def _index(
    atlas: FeatureAtlas, model: str, pictures: TopPictures | None, top_images: TopImages | None
) -> dict[str, Any]:
    return {
        "model": model,
        "fingerprint": atlas.fingerprint,
        "chunk": CHUNK,
        "grid": list(pictures.grid) if pictures is not None else [0, 0],
        "map_grid": list(top_images.grid) if top_images is not None else [0, 0],
        "columns": table_columns(atlas),
        "further": ["\n".join(words) for words in atlas.runner_up],
    }


def _script(path: Path, call: str, *arguments: Any) -> None:
    """``sparsight.call(...)``; ASCII only, so that no byte of a name depends on an encoding."""
    words = ",".join(json.dumps(a, separators=(",", ":"), allow_nan=False) for a in arguments)
    path.write_text(f"sparsight.{call}({words});\n", encoding="ascii")
