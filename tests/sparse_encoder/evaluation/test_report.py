"""The whole report on tiny sets, against the same figures made the plain way."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sparse_encoder.contrastive import unit
from sparse_encoder.dataset import read_samples
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation import code_rows
from sparse_encoder.evaluation.evaluate import evaluate_encoder
from sparse_encoder.evaluation.evaluated import FrozenTrunkEncoder
from sparse_encoder.evaluation.measures import EncoderMeasures
from sparse_encoder.evaluation.page import page, write_report
from sparse_encoder.evaluation.report import measure_encoder
from sparse_encoder.evaluation.retrieval import recall
from sparse_encoder.evaluation.zeroshot import accuracy, class_codes
from sparse_encoder.image import decode_image
from sparse_encoder.templates import TEMPLATE_SETS
from tests.tiny_model import png, write_shard

THINGS = ["dog", "cat", "car"]


class Pixels:
    """An embedding of its own: the image's 2 x 2 thumbnail."""

    name = "thumbnail"
    limit = "Judged by a thumbnail of four pixels."

    def preprocess(self, images: list[Image.Image]) -> Tensor:
        small = [torch.tensor(list(i.resize((2, 2)).tobytes())).float() - 90 for i in images]
        return torch.stack(small)

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels[:, None]


@pytest.fixture(scope="module")
def encoder() -> FrozenTrunkEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SparseEncoder.build(EncoderConfig(48, "tiny", "tiny"))
    encoder.requires_grad_(False)
    return FrozenTrunkEncoder(encoder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    captions = [[f"A {THINGS[i % 3]} .", "A photo ."][: 1 + i % 2] for i in range(11)]
    write_shard(
        folder / "coco" / "val-0000.tar",
        [(f"c{i}", png(i), {"captions": c}) for i, c in enumerate(captions)],
    )
    by_rule = {"captions": ["it is day"], "captions_are": "made by rule"}
    write_shard(folder / "visual7w" / "val-0000.tar", [("v0", png(50), by_rule)])
    labels = [(f"l{i}", png(100 + i), {"label": THINGS[i % 3]}) for i in range(9)]
    write_shard(folder / "zeroshot" / "pets-test.tar", list(labels))
    (folder / "zeroshot" / "classes.json").write_text(json.dumps({"pets": THINGS}))
    return folder


def codes_of(encoder: FrozenTrunkEncoder, shard: Path) -> Tensor:
    """From cells rounded to fp16, as the cache of trunk outputs holds them."""
    trunk = encoder.encoder.image_trunk
    photos = [decode_image(s.image).pixels for s in read_samples([shard])]
    cells = torch.cat([trunk(trunk.preprocess([photo])) for photo in photos])
    return encoder.image_codes(cells.half().float().mean(1))


def embeddings_of(data: Path) -> Tensor:
    judge = Pixels()
    shards = [data / "coco/val-0000.tar", data / "zeroshot/pets-test.tar"]
    shards.append(data / "visual7w/val-0000.tar")
    images = [decode_image(s.image).pixels for s in read_samples(shards)]
    return unit(judge(judge.preprocess(images))[:, 0].half().float()).double()


def test_every_figure_equals_the_one_made_the_plain_way(
    encoder: FrozenTrunkEncoder, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_rows, "BATCH", 4)
    found = measure_encoder(encoder, data, embedding=Pixels())
    coco = codes_of(encoder, data / "coco/val-0000.tar")
    pets = codes_of(encoder, data / "zeroshot/pets-test.tar")
    codes = torch.cat([coco, pets, codes_of(encoder, data / "visual7w/val-0000.tar")])

    captions = [c for i in range(11) for c in [f"A {THINGS[i % 3]} .", "A photo ."][: 1 + i % 2]]
    owner = torch.tensor([i for i in range(11) for _ in range(1 + i % 2)])
    texts = encoder.encoder.encode_texts(captions)
    retrieval = found.sets["coco/val"].retrieval
    assert retrieval is not None
    assert retrieval.recall == recall(unit(texts), unit(coco), owner)
    assert found.sets["visual7w/val"].retrieval is None

    for measured in found.sets["pets"].zeroshot:
        templates = TEMPLATE_SETS[measured.templates]
        classes = class_codes(THINGS, encoder.encoder.encode_texts, templates)
        label = torch.tensor([i % 3 for i in range(9)])
        assert measured.top1 == pytest.approx(accuracy(unit(pets), classes, label))
        assert (measured.top5, measured.chance_top1) == (1, pytest.approx(1 / 3))

    for at in found.image_sparsity:
        assert at.l0 == pytest.approx(float((codes > at.threshold).sum() / len(codes)))
        assert at.dead_features == int((codes <= at.threshold).all(0).sum())
    assert found.text_sparsity[0].l0 == pytest.approx(float((texts > 0).sum() / len(texts)))
    image_mean, text_mean = codes.double().mean(0), texts.double().mean(0)
    score = image_mean / (image_mean + text_mean)
    assert found.modality is not None
    inside = (score >= 0.1) & (score <= 0.9)
    live = int((~score.isnan()).sum())
    assert found.modality.multimodal_share == pytest.approx(int(inside.sum()) / live)

    e = embeddings_of(data)
    clarity, mono = [], []
    for a in codes.double().T:
        pairs = [(i, j) for i in range(len(e)) for j in range(i)]
        both = [(i, j) for i, j in pairs if a[i] > 0.001 and a[j] > 0.001]
        if both:
            clarity.append(sum(float(e[i] @ e[j]) for i, j in both) / len(both))
        w = (a - a.min()) / (a.max() - a.min())
        total = sum(float(w[i] * w[j]) for i, j in pairs)
        if total > 0:
            mono.append(sum(float(w[i] * w[j] * (e[i] @ e[j])) for i, j in pairs) / total)
    assert found.clarity[0].n_features == len(clarity) > 10
    assert found.clarity[0].mean == pytest.approx(sum(clarity) / len(clarity), abs=1e-5)
    assert found.monosemanticity.n_features == len(mono)
    assert found.monosemanticity.mean == pytest.approx(sum(mono) / len(mono), abs=1e-5)
    assert (found.n_images, found.n_texts) == (21, len(captions))


def test_the_report_says_what_it_did_not_measure_and_who_judged(
    encoder: FrozenTrunkEncoder, data: Path
) -> None:
    judged = measure_encoder(encoder, data, embedding=Pixels(), templates=("mini",))
    assert judged.embedding == "thumbnail" and Pixels.limit in judged.limits
    own = measure_encoder(encoder, data, templates=("mini",))
    assert own.embedding == "trunk"
    words = " ".join(own.limits)
    assert "too kind" in words and "no instances_val" not in words
    for expected in ("visual7w/val has no captions", "No boxes", "21 images"):
        assert expected in words, expected


def test_codes_with_negative_entries_have_no_modality(
    encoder: FrozenTrunkEncoder, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for head in (encoder.encoder.image_head, encoder.encoder.text_head):
        monkeypatch.setattr(head, "activation", "identity")
    found = measure_encoder(encoder, data, templates=("mini",))
    assert found.modality is None
    assert any("negative" in limit for limit in found.limits)
    assert "Not measured" in page(found, "dense")


def test_boxes_are_measured_where_they_are_annotated(
    encoder: FrozenTrunkEncoder, data: Path
) -> None:
    write_shard(
        data / "coco" / "val-0000.tar", [("coco_000000000005", png(5), {"captions": ["A dog ."]})]
    )
    annotations = {
        "images": [{"id": 5, "width": 24, "height": 20}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"image_id": 5, "category_id": 1, "bbox": [2, 2, 9, 9]}],
    }
    (data / "coco" / "instances_val2017.json").write_text(json.dumps(annotations))
    found = measure_encoder(encoder, data, templates=("mini",))
    assert found.boxes["mini"].n_boxes == 1
    assert not any("boxes" in limit for limit in found.limits)
    assert "<h2>Boxes</h2>" in page(found, "tiny")


def test_one_image_gives_figures_or_none_and_no_number_made_up(
    encoder: FrozenTrunkEncoder, tmp_path: Path
) -> None:
    data = tmp_path / "one"
    write_shard(data / "coco" / "val-0000.tar", [("c", png(1), {"captions": ["A dog ."]})])
    found = measure_encoder(encoder, data)
    retrieval = found.sets["coco/val"].retrieval
    assert retrieval is not None and retrieval.recall == retrieval.chance
    assert found.clarity[0].mean is found.monosemanticity.mean is None
    json.dumps(found.to_json(), allow_nan=False)
    assert "<svg" in page(found, "one")


def write_nothing(data: Path) -> None:
    data.mkdir()


def write_empty(data: Path) -> None:
    write_shard(data / "coco" / "val-0000.tar", [])


def write_unreadable(data: Path) -> None:
    write_shard(data / "coco" / "val-0000.tar", [("c", b"none", {"captions": ["A dog ."]})])


def write_unnamed(data: Path) -> None:
    write_shard(data / "zeroshot" / "pets-test.tar", [("l", png(1), {"label": "dog"})])
    (data / "zeroshot" / "classes.json").write_text('{"cars": ["car"]}')


def write_without_classes(data: Path) -> None:
    write_shard(data / "zeroshot" / "pets-test.tar", [("l", png(1), {"label": "dog"})])


def write_mislabelled(data: Path) -> None:
    write_shard(data / "zeroshot" / "pets-test.tar", [("l", png(1), {"label": "cow"})])
    (data / "zeroshot" / "classes.json").write_text('{"pets": ["dog"]}')


@pytest.mark.parametrize(
    ("write", "word"),
    [
        (write_nothing, "nothing to evaluate on"),
        (write_empty, "coco/val is empty"),
        (write_unreadable, "coco/val is empty"),
        (write_unnamed, "no names for 'pets'"),
        (write_without_classes, "cannot read the class names"),
        (write_mislabelled, "cow"),
    ],
)
def test_sets_that_cannot_be_measured_are_refused(
    encoder: FrozenTrunkEncoder, tmp_path: Path, write: Any, word: str
) -> None:
    data = tmp_path / "bad"
    write(data)
    with pytest.raises(SparsightError, match=word):
        measure_encoder(encoder, data)


def test_the_short_table_refuses_a_retrieval_set_without_captions(
    encoder: FrozenTrunkEncoder, tmp_path: Path
) -> None:
    write_shard(tmp_path / "flickr8k" / "val-0000.tar", [("c", png(1), {"label": "dog"})])
    with pytest.raises(SparsightError, match="none of the 1 photographs of flickr8k/val has a"):
        evaluate_encoder(encoder, tmp_path)


class Links(HTMLParser):
    """Collects whatever would make a browser fetch or run something, and checks the nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.fetched += [f"{tag} {k}" for k, _ in attrs if k in ("src", "href", "srcset")]
        self.fetched += [tag] if tag in ("script", "link", "iframe", "img") else []
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_else(
    encoder: FrozenTrunkEncoder, data: Path
) -> None:
    measures = measure_encoder(encoder, data)
    text = page(measures, "<my> & model")
    parser = Links()
    parser.feed(text)
    assert parser.open == [] and parser.fetched == []
    assert "url(" not in text and "@import" not in text
    assert {"svg", "rect", "line", "text", "table"} <= parser.seen
    assert "<my>" not in text and "&lt;my&gt; &amp; model" in text
    assert all(word not in text for word in ("nan", "None", "inf "))


def test_the_page_shows_the_numbers_of_the_report(encoder: FrozenTrunkEncoder, data: Path) -> None:
    measures = measure_encoder(encoder, data)
    text = page(measures, "tiny")
    zeroshot = measures.sets["pets"].zeroshot[0]
    mean = measures.clarity[0].mean
    assert mean is not None
    for number in (f"{100 * zeroshot.top1:.1f}", f"{measures.image_sparsity[1].l0:.1f}"):
        assert f"<td>{number}</td>" in text
    assert f"<td>{mean:.3f}</td>" in text
    assert text.count("<rect") >= sum(map(bool, measures.density.counts)) + 10


def test_a_report_is_written_as_numbers_and_as_a_page(
    encoder: FrozenTrunkEncoder, data: Path, tmp_path: Path
) -> None:
    measures = measure_encoder(encoder, data)
    numbers, drawn = write_report(measures, tmp_path / "deep" / "report", "tiny")
    assert sorted(p.name for p in numbers.parent.iterdir()) == ["report.html", "report.json"]
    assert drawn.read_text().startswith("<!doctype html>")
    assert json.loads(numbers.read_text()) == json.loads(json.dumps(measures.to_json()))


def test_a_report_that_cannot_be_written_is_an_error_with_the_place(
    encoder: FrozenTrunkEncoder, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SparsightError, match="file"):
        write_report(measure_encoder(encoder, data), tmp_path / "file", "tiny")


def test_the_table_has_a_line_for_each_measure(encoder: FrozenTrunkEncoder, data: Path) -> None:
    measures: EncoderMeasures = measure_encoder(encoder, data)
    table = measures.table()
    for word in ("text to image: R@1", "imagenet80", "threshold 0.001", "Clarity", "multimodal"):
        assert word in table, word
    assert not any(math.isnan(c.mean or 0) for c in measures.clarity)
