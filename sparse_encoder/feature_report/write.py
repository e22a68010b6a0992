"""A model's features as a folder that opens from disk: one page, and data as scripts.

A page from disk may not fetch files, but it may load scripts: each data file is one call with JSON in
it. ``data/index.js`` has what the table and the scatter show of every feature; ``data/0012.js`` has the
rest of `CHUNK` features, loaded when one of them is opened. So a report of any size opens at once.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_report.pictures import TopPictures
from sparse_encoder.feature_report.quantiles import quantiles
from sparse_encoder.feature_search.card import FeatureCard, feature_card

CHUNK = 256  # features a data file, about 80 kB
INDEX = "data/index.js"
_PAGE = ("index.html", "report.css", "report.js", "plots.js")

Neighbours = Callable[[int], Iterable[tuple[int, float]]]  # feature: (feature, cosine), best first


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
    overwrite: bool = False,
) -> WrittenReport:
    """Writes the report to `folder`, whole or not at all.

    pictures: of images that may be shown; without them features have none. Raises SparsightError
    where the folder holds something (with `overwrite`: something that is no report), or where it
    cannot be written.
    """
    _refuse_occupied(folder, overwrite)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        (aside / "data").mkdir(parents=True)
        for name in _PAGE:
            (aside / name).write_bytes(files(__package__).joinpath("page", name).read_bytes())
        _script(aside / INDEX, "index", _index(atlas, model, pictures))
        for start in range(0, atlas.n_features, CHUNK):
            stop = min(start + CHUNK, atlas.n_features)
            rows = [_row(feature_card(atlas, j), pictures, neighbours) for j in range(start, stop)]
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


def _index(atlas: FeatureAtlas, model: str, pictures: TopPictures | None) -> dict[str, Any]:
    """Columns over all features, rounded to what a table shows."""
    columns: dict[str, list[Any]] = {
        "name": list(atlas.names),
        "density": _short(atlas.density),
        "modality": _short(atlas.modality),
        "p99": _short(atlas.p99),
        "name_score": _short(atlas.name_score),
    }
    for key in ("trust", "auc", "clarity", "monosemanticity"):  # where the atlas knows them
        column = getattr(atlas, key, None)
        if isinstance(column, np.ndarray) and column.shape == (atlas.n_features,):
            columns[key] = _short(column)
    return {
        "model": model,
        "fingerprint": atlas.fingerprint,
        "chunk": CHUNK,
        "grid": list(pictures.grid) if pictures is not None else [0, 0],
        "columns": columns,
    }


def _row(
    card: FeatureCard, pictures: TopPictures | None, neighbours: Neighbours | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "further": list(card.runner_up),
        "quantiles": [[share, _digits(value)] for share, value in quantiles(card)],
        "near": [[j, _digits(c)] for j, c in (neighbours or _none)(card.feature)],
    }
    if card.more:
        row["more"] = {k: _digits(v) if isinstance(v, float) else v for k, v in card.more.items()}
    if pictures is not None:
        shown = pictures.of(card.feature)
        row["pictures"] = [[s.picture, _digits(s.activation), s.cells] for s in shown]
    return row


def _none(_: int) -> Iterable[tuple[int, float]]:
    return ()


def _short(column: np.ndarray[Any, Any]) -> list[float | None]:
    return [_digits(float(v)) if np.isfinite(v) else None for v in column]


def _digits(value: float) -> float:
    """Four significant digits: more than a screen shows, a third of the bytes."""
    return float(f"{value:.4g}")


def _script(path: Path, call: str, *arguments: Any) -> None:
    """``sparsight.call(...)``; ASCII only, so that no byte of a name depends on an encoding."""
    words = ",".join(json.dumps(a, separators=(",", ":"), allow_nan=False) for a in arguments)
    path.write_text(f"sparsight.{call}({words});\n", encoding="ascii")
