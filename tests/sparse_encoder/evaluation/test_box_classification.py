"""Boxes against a plain loop; annotations as COCO writes them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.box_classification import Box, classify_boxes, crop, read_annotations
from tests.tiny_model import write_shard

COLOURS = {"red thing": (220, 10, 10), "green thing": (10, 220, 10), "blue thing": (10, 10, 220)}
TEMPLATES = ("{}", "a photo of a {}.")


class ColourEncoder:
    """The code of an image is its mean colour, of a text the colour that it names."""

    features = 3

    def image_vectors(self, images: list[Image.Image]) -> Tensor:
        return torch.stack([torch.tensor(np.asarray(i).mean((0, 1))).float() for i in images])

    def text_vectors(self, texts: list[str]) -> Tensor:
        return torch.stack(
            [torch.tensor([float(w in t) for w in ("red", "green", "blue")]) for t in texts]
        )

    def image_codes(self, vectors: Tensor) -> Tensor:
        return vectors

    def text_codes(self, vectors: Tensor) -> Tensor:
        return vectors


def photo_of(boxes: list[tuple[float, float, float, float, str]], scale: float) -> bytes:
    """A grey photograph of 100 x 80 pixels times `scale`, with coloured boxes (x, y, w, h)."""
    image = Image.new("RGB", (int(100 * scale), int(80 * scale)), (128, 128, 128))
    for x, y, wide, high, name in boxes:
        edges = tuple(int(v * scale) for v in (x, y, x + wide, y + high))
        image.paste(COLOURS[name], edges)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def annotate(
    path: Path, boxes: dict[int, list[tuple[float, float, float, float, str]]], **extra: Any
) -> Path:
    ids = {name: 10 * (i + 1) for i, name in enumerate(COLOURS)}  # COCO's ids have gaps, too
    annotations = [
        {"image_id": image, "category_id": ids[name], "bbox": list(box), "iscrowd": 0}
        for image, all_of in boxes.items()
        for *box, name in all_of
    ]
    path.write_text(
        json.dumps(
            {
                "images": [{"id": image, "width": 100, "height": 80} for image in boxes],
                "categories": [{"id": i, "name": n} for n, i in reversed(ids.items())],
                "annotations": annotations + extra.get("annotations", []),
            }
        )
    )
    return path


BOXES = {
    7: [(10.0, 10.0, 20.0, 20.0, "red thing"), (60.0, 30.0, 30.0, 40.0, "blue thing")],
    8: [(0.0, 0.0, 50.0, 40.0, "green thing")],
}


@pytest.mark.parametrize("scale", [1, 0.5])
def test_each_box_is_cut_out_and_named(tmp_path: Path, scale: float) -> None:
    """Also in a reduced copy of the photograph: the annotations speak of the full size."""
    annotations = read_annotations(annotate(tmp_path / "instances_val.json", BOXES))
    shard = tmp_path / "val-0000.tar"
    write_shard(shard, [(f"coco_{i:012d}", photo_of(b, scale), {}) for i, b in BOXES.items()])
    found = classify_boxes(ColourEncoder(), annotations, [shard], TEMPLATES)
    assert (found.n_boxes, found.n_images, found.n_categories) == (3, 2, 3)
    assert (found.top1, found.top5) == (1, 1)
    assert (found.chance_top1, found.chance_top5) == (pytest.approx(1 / 3), 1)


def test_the_shares_equal_a_plain_loop_over_boxes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = list(COLOURS)
    boxes = {
        i: [(*random.uniform(0, 60, 2), *random.uniform(1, 40, 2), names[j % 3]) for j in range(7)]
        for i in range(1, 5)
    }
    annotations = read_annotations(annotate(tmp_path / "instances_val.json", boxes))
    shard = tmp_path / "val-0000.tar"
    # Later boxes lie over earlier ones, so that some are named wrongly.
    write_shard(shard, [(str(i), photo_of(b, 1), {}) for i, b in boxes.items()])
    encoder = ColourEncoder()
    found = classify_boxes(encoder, annotations, [shard], TEMPLATES)
    classes = unit(sum(unit(encoder.text_vectors([t.format(n) for n in names])) for t in TEMPLATES))
    right = 0
    for image_id, own in annotations.boxes.items():
        photo = Image.open(io.BytesIO(photo_of(boxes[image_id], 1)))
        for box in own:
            code = unit(encoder.image_vectors([crop(photo, box)]))
            similarity = (code @ classes.T)[0].tolist()
            rivals = [s for c, s in enumerate(similarity) if c != box.category]
            right += similarity[box.category] > max(rivals)
    assert 0 < right < found.n_boxes == 28
    assert found.top1 == right / 28


@given(
    edges=st.tuples(*[st.floats(0, 1)] * 4),
    width=st.integers(1, 30),
    height=st.integers(1, 30),
)
def test_a_crop_lies_inside_covers_its_box_and_is_never_empty(
    edges: tuple[float, float, float, float], width: int, height: int
) -> None:
    x, y = sorted(edges[:2]), sorted(edges[2:])
    colour = np.arange(width * height, dtype=np.uint8).reshape(height, width)
    piece = crop(Image.fromarray(colour), Box(x[0], y[0], x[1], y[1], 0))
    assert 1 <= piece.width <= width and 1 <= piece.height <= height
    assert piece.width >= (x[1] - x[0]) * width - 1e-3
    assert piece.height >= (y[1] - y[0]) * height - 1e-3
    assert piece.width <= (x[1] - x[0]) * width + 2


def test_crowds_and_boxes_without_area_are_left_out_and_counted(tmp_path: Path) -> None:
    more = [
        {"image_id": 7, "category_id": 10, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"image_id": 7, "category_id": 10, "bbox": [5, 5, 0, 9], "iscrowd": 0},
        {"image_id": 7, "category_id": 10, "bbox": [150, 5, 9, 9]},
    ]
    found = read_annotations(annotate(tmp_path / "a.json", BOXES, annotations=more))
    assert (found.n_crowds, found.n_degenerate) == (1, 2)
    assert {image: len(all_of) for image, all_of in found.boxes.items()} == {7: 2, 8: 1}
    assert found.names == list(COLOURS)  # in order of their ids


def test_photographs_that_are_missing_or_broken_are_counted(tmp_path: Path) -> None:
    annotations = read_annotations(annotate(tmp_path / "a.json", BOXES))
    shard = tmp_path / "val-0000.tar"
    write_shard(shard, [("8", photo_of(BOXES[8], 1), {}), ("7", b"no photograph", {})])
    found = classify_boxes(ColourEncoder(), annotations, [shard], TEMPLATES)
    assert (found.n_boxes, found.n_images_without_photograph) == (1, 1)


def test_no_photograph_at_all_is_refused(tmp_path: Path) -> None:
    annotations = read_annotations(annotate(tmp_path / "a.json", BOXES))
    shard = tmp_path / "val-0000.tar"
    write_shard(shard, [("another", photo_of(BOXES[8], 1), {})])
    with pytest.raises(SparsightError, match="none of the 2 annotated photographs"):
        classify_boxes(ColourEncoder(), annotations, [shard], TEMPLATES)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no COCO annotation"),
        ("[]", "no COCO annotation"),
        ('{"images": [], "categories": []}', "annotations"),
        ('{"images": [], "categories": [], "annotations": [{"image_id": 1, "bbox": []}]}', "1"),
        (
            '{"images": [{"id": 1, "width": 2, "height": 2}], "categories": [], '
            '"annotations": [{"image_id": 1, "bbox": [0, 0], "category_id": 3}]}',
            "no COCO annotation",
        ),
    ],
)
def test_a_file_that_holds_no_annotations_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "instances_val.json"
    path.write_text(text)
    with pytest.raises(SparsightError, match=word) as refusal:
        read_annotations(path)
    assert str(path) in str(refusal.value)
