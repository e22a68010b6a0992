"""Classification of ground-truth boxes: each is cut out and named among the set's categories.

The task of Sparse CLIP's Table 2 ("box Acc@1, Acc@5", arXiv 2601.20075), on COCO's annotation
files. How the paper crops is not stated; here a box is cut out as it is, without context.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from sparse_encoder.dataset import read_samples
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.evaluated import Evaluated
from sparse_encoder.evaluation.zeroshot import KS, TopKHits, class_codes
from sparse_encoder.image import ImageError, decode_image

BATCH = 16  # crops the trunk takes at once


@dataclass(frozen=True)
class Box:
    """One object, in fractions of its photograph, so that a reduced copy of it serves too."""

    left: float
    top: float
    right: float
    bottom: float
    category: int  # place among the categories' names


@dataclass(frozen=True)
class BoxAnnotations:
    """Boxes of each photograph by COCO's image id."""

    names: list[str]  # of the categories, in order of their ids
    boxes: dict[int, list[Box]]
    n_crowds: int  # left out: a crowd is no single object
    n_degenerate: int  # left out: without area, or outside of the photograph


@dataclass(frozen=True)
class BoxAccuracy:
    """Shares in [0, 1], higher is better, all boxes alike (large sets of people dominate)."""

    n_boxes: int
    n_images: int
    n_categories: int
    top1: float
    top5: float
    chance_top1: float
    chance_top5: float
    n_images_without_photograph: int  # annotated, but in none of the shards
    n_crowds: int
    n_degenerate: int


def read_annotations(path: Path) -> BoxAnnotations:
    """From a COCO ``instances_*.json``; raises SparsightError for any other file."""
    try:
        raw = json.loads(path.read_text())
        categories = sorted(raw["categories"], key=lambda c: int(c["id"]))
        place = {int(c["id"]): i for i, c in enumerate(categories)}
        size = {int(i["id"]): (float(i["width"]), float(i["height"])) for i in raw["images"]}
        boxes: dict[int, list[Box]] = {}
        crowds = degenerate = 0
        for each in raw["annotations"]:
            if each.get("iscrowd"):
                crowds += 1
                continue
            image = int(each["image_id"])
            box = _box(each["bbox"], size[image], place[int(each["category_id"])])
            if box is None:
                degenerate += 1
            else:
                boxes.setdefault(image, []).append(box)
        return BoxAnnotations([str(c["name"]) for c in categories], boxes, crowds, degenerate)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SparsightError(
            f"{path} is no COCO annotation file ({error!r}); expected images, categories and "
            "annotations with bbox, category_id and image_id",
            param="data",
        ) from error


def crop(image: Image.Image, box: Box) -> Image.Image:
    """The part of `image` that shows the box, whole pixels, at least one each way."""
    left, right = _pixels(box.left, box.right, image.width)
    top, bottom = _pixels(box.top, box.bottom, image.height)
    return image.crop((left, top, right, bottom))


def classify_boxes(
    encoder: Evaluated,
    annotations: BoxAnnotations,
    shards: Sequence[Path],
    templates: Sequence[str],
) -> BoxAccuracy:
    """Top-1 and top-5 over the boxes whose photographs are in the shards, a few crops at a time.

    A sample's key ends with COCO's image id (``000000113488``, ``coco_000000113488``). Raises
    SparsightError where no box has its photograph.
    """
    hits = TopKHits(
        class_codes(
            annotations.names,
            lambda texts: encoder.text_codes(encoder.text_vectors(texts)),
            templates,
        )
    )
    crops = _crops(annotations, shards)
    seen: set[int] = set()
    bar = tqdm(desc="boxes", unit="box", delay=1, leave=False)
    while batch := list(islice(crops, BATCH)):
        code = encoder.image_codes(encoder.image_vectors([piece for piece, _, _ in batch]))
        hits.add(code, torch.tensor([category for _, category, _ in batch]))
        seen.update(image for _, _, image in batch)
        bar.update(len(batch))
    bar.close()
    if not hits.n:
        raise SparsightError(
            f"none of the {len(annotations.boxes)} annotated photographs is in the "
            f"{len(shards)} shards; a sample's key must end with COCO's image id",
            param="data",
        )
    return BoxAccuracy(
        n_boxes=hits.n,
        n_images=len(seen),
        n_categories=len(annotations.names),
        top1=hits.share(KS[0]),
        top5=hits.share(KS[1]),
        chance_top1=hits.chance(KS[0]),
        chance_top5=hits.chance(KS[1]),
        n_images_without_photograph=len(annotations.boxes.keys() - seen),
        n_crowds=annotations.n_crowds,
        n_degenerate=annotations.n_degenerate,
    )


def _crops(
    annotations: BoxAnnotations, shards: Sequence[Path]
) -> Iterator[tuple[Image.Image, int, int]]:
    """(crop, category, image id) of every box, one photograph in memory at a time."""
    for sample in read_samples(shards):
        image_id = _image_id(sample.key)
        if image_id not in annotations.boxes:
            continue
        try:
            photo = decode_image(sample.image).pixels
        except ImageError:
            continue  # counted as without photograph
        for box in annotations.boxes[image_id]:
            yield crop(photo, box), box.category, image_id


def _image_id(key: str) -> int:
    """The number at the end of a sample's key, -1 where there is none."""
    end = key.rsplit("/", 1)[-1].rsplit("_", 1)[-1]
    return int(end) if end.isdigit() else -1


def _box(bbox: Any, size: tuple[float, float], category: int) -> Box | None:
    """COCO's (x, y, width, height) in pixels, cut at the photograph's edges; None if nothing is left."""
    x, y, wide, high = (float(v) for v in bbox)
    left, right = max(0.0, x / size[0]), min(1.0, (x + wide) / size[0])
    top, bottom = max(0.0, y / size[1]), min(1.0, (y + high) / size[1])
    return Box(left, top, right, bottom, category) if left < right and top < bottom else None


def _pixels(low: float, high: float, length: int) -> tuple[int, int]:
    """Outward to whole pixels, so that a thin object is not cut away."""
    first = min(math.floor(low * length), length - 1)
    return first, max(first + 1, min(math.ceil(high * length - 1e-6), length))
