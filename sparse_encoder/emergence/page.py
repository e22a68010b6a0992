"""What was watched as one page that opens from disk, its pictures, and JSON with all of it.

``index.html`` shows at most `limit` features, those that changed their meaning first; ``emergence.json``
holds all; ``pictures/`` the strongest photographs of the features on the page, small.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from sparse_encoder.dataset import read_samples
from sparse_encoder.emergence.drift import CHANGED, KEPT, SAME, UNTOLD
from sparse_encoder.emergence.watch import Emergence, StageView
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.svg_plots import histogram_chart
from sparse_encoder.image import ImageError, decode_image
from sparse_encoder.whole_file import write_whole

PAGE, DATA, PICTURES = "index.html", "emergence.json", "pictures"
SIDE = 160  # pixels of a picture's longer side


def refuse_occupied(out: Path, overwrite: bool) -> None:
    """Raises SparsightError where `out` holds a page (without `overwrite`) or what is not ours."""
    if out.is_file():
        raise SparsightError(f"{out} is a file; give a folder", param="out")
    held = {p.name for p in out.iterdir() if not p.name.startswith(".")} if out.is_dir() else set()
    if not held <= {PAGE, DATA, PICTURES}:
        raise SparsightError(
            f"{out} holds other files; give a new folder for the page", param="out"
        )
    if held & {PAGE, DATA} and not overwrite:
        raise SparsightError(
            f"{out} holds a page already; --force replaces it, or give a new folder", param="out"
        )


def write_emergence(
    emergence: Emergence,
    shards: Sequence[Path],
    out: Path,
    *,
    limit: int = 1000,
    pictures: bool = True,
) -> Path:
    """Writes page, JSON and pictures to `out`; the page last, and gives its path.

    shards: those that were watched, for the pictures; with `pictures` off no photograph is written.
    Raises SparsightError where the folder cannot be written.
    """
    shown = page_order(emergence)[:limit]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).unlink(missing_ok=True)  # a page never speaks of another's pictures
        shutil.rmtree(out / PICTURES, ignore_errors=True)
        drawn = _draw(emergence, shown, shards, out / PICTURES) if pictures else set()
        whole = json.dumps(to_json(emergence), allow_nan=False, separators=(",", ":"))
        write_whole(out / DATA, whole.encode())
        write_whole(out / PAGE, _page(emergence, shown, drawn).encode())
    except OSError as error:
        raise SparsightError(
            f"cannot write to {out}: {error}; free some space, or give another folder", param="out"
        ) from error
    return out / PAGE


def page_order(emergence: Emergence) -> list[int]:
    """Live features: those that changed first, each group by the images they are active on in the end."""
    last = emergence.stages[-1]
    live = np.flatnonzero(last.density > 0).tolist()
    return sorted(live, key=lambda i: (not emergence.changed(i), -float(last.density[i]), i))


def to_json(emergence: Emergence) -> dict[str, Any]:
    """All that was found; unknown numbers are null."""
    return {
        "run": emergence.run,
        "n_images": len(emergence.keys),
        "n_words": emergence.n_words,
        "n_features": emergence.n_features,
        "same": SAME,
        "at_least": emergence.settings.at_least,
        "stages": [_stage_json(stage) for stage in emergence.stages],
        "features": [
            {
                "feature": i,
                "changed": emergence.changed(i),
                "stages": [
                    {**_view(stage, i), "images": [emergence.keys[j] for j, _ in _tops(stage, i)]}
                    for stage in emergence.stages
                ],
            }
            for i in range(emergence.n_features)
        ],
    }


def _stage_json(stage: StageView) -> dict[str, Any]:
    return {
        "step": stage.step,
        "share": stage.share,
        "l0": stage.l0,
        "density": stage.density_of_code,
        "live": stage.n_live,
        **{verdict: stage.count(verdict) for verdict in (KEPT, CHANGED, UNTOLD)},
        "moved": int(stage.moved.sum()),
        "modality": stage.modality.counts,
        "modality_distance": stage.modality_distance,
    }


def _view(stage: StageView, i: int) -> dict[str, Any]:
    return {
        "names": stage.names[i],
        "density": _digits(stage.density[i]),
        "own": _digits(stage.own[i]),
        "best": _digits(stage.best[i]),
        "best_index": int(stage.best_index[i]),
        "verdict": stage.verdict[i],
        "moved": bool(stage.moved[i]),
    }


def _tops(stage: StageView, i: int) -> Iterator[tuple[int, float]]:
    for image, activation in zip(stage.top_image[i], stage.top_activation[i], strict=True):
        if image >= 0:
            yield int(image), float(activation)


def _draw(
    emergence: Emergence, shown: Sequence[int], shards: Sequence[Path], folder: Path
) -> set[int]:
    """Small copies of the photographs that the page shows; the numbers of those that could be made."""
    wanted = {image for i in shown for stage in emergence.stages for image, _ in _tops(stage, i)}
    keys = {emergence.keys[image]: image for image in sorted(wanted, reverse=True)}
    folder.mkdir(parents=True)
    drawn = set()
    for sample in read_samples(shards):
        number = keys.get(sample.key)
        if number is None or number in drawn:
            continue
        try:
            small = decode_image(sample.image).pixels.convert("RGB")
        except ImageError:  # of the same key as one that can be read
            continue
        small.thumbnail((SIDE, SIDE))
        small.save(folder / f"{number}.jpg", quality=80)
        drawn.add(number)
    return drawn


def _page(emergence: Emergence, shown: Sequence[int], drawn: set[int]) -> str:
    last, n_changed = emergence.stages[-1], sum(map(emergence.changed, range(emergence.n_features)))
    facts = (
        f"{emergence.run}: {emergence.n_features:,} features, {last.n_live:,} active on some of "
        f"{len(emergence.keys):,} images in the end; {n_changed:,} changed their meaning. "
        f"Names from {emergence.n_words:,} words. Below: {len(shown):,} features."
    )
    data = {
        "facts": facts,
        "keys": {str(i): emergence.keys[i] for i in sorted(drawn)},
        "stages": [{"label": stage.label} for stage in emergence.stages],
        "features": [
            {
                "feature": i,
                "changed": emergence.changed(i),
                "stages": [
                    {
                        **_view(stage, i),
                        "pictures": [
                            [image, _digits(activation)]
                            for image, activation in _tops(stage, i)
                            if image in drawn
                        ],
                    }
                    for stage in emergence.stages
                ],
            }
            for i in shown
        ],
    }
    # No "</script>" of a name or a key may end the element.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "STAGES": _table(emergence),
        "PLOTS": "".join(_plot(stage) for stage in emergence.stages),
        "SAME": f"{SAME:g}",
        "LEAST": str(emergence.settings.at_least),
        "DATA": text,
    }
    for name, content in parts.items():  # the data last: it may hold any text
        template = template.replace(f"%{name}%", content)
    return template


def _table(emergence: Emergence) -> str:
    head = (
        "share of the run",
        "steps",
        "L0",
        "density",
        "live",
        "kept",
        "changed",
        "cannot be told",
    )
    rows = [
        (
            stage.label,
            f"{stage.step:,}",
            f"{stage.l0:,.1f}",
            f"{100 * stage.density_of_code:.2f} %",
            f"{stage.n_live:,}",
            *(f"{stage.count(verdict):,}" for verdict in (KEPT, CHANGED, UNTOLD)),
            f"{int(stage.moved.sum()):,}",
            f"{stage.modality_distance:.2f}",
        )
        for stage in emergence.stages
    ]
    lines = ["".join(f"<th>{escape(word)}</th>" for word in (*head, "moved", "distance"))]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _plot(stage: StageView) -> str:
    title = f"{stage.label} of the run, {stage.step:,} steps"
    plot = histogram_chart(title, stage.modality, "modality score")
    return f"<figure>{plot}<figcaption>{escape(title)}</figcaption></figure>"


def _digits(value: Any) -> float | None:
    """Four significant digits, null where unknown."""
    return float(f"{float(value):.4g}") if np.isfinite(value) else None
