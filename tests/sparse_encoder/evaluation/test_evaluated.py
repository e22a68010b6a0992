"""Both kinds of encoder give evaluation the codes that they give everyone."""

import json
from pathlib import Path

import pytest
import torch

from sparse_encoder.contrastive import unit
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.code_rows import CodeRows
from sparse_encoder.evaluation.evaluated import (
    FrozenTrunkEncoder,
    SparseClipEncoder,
    load_evaluated,
)
from sparse_encoder.evaluation.report import measure_encoder
from sparse_encoder.towers import ImageTowerConfig, SparseClip, SparseClipConfig, TextTowerConfig
from sparse_encoder.towers import export as export_sparse_clip
from tests.tiny_model import photo, png, write_shard

TEXTS = ["a dog on a beach", "a cat", "two red cars in the snow"]


def tiny_clip() -> SparseClip:
    shape = {"width": 16, "layers": 1, "heads": 2, "projection": 8}
    config = SparseClipConfig(
        image=ImageTowerConfig("vit", patch=8, size=16, **shape),
        text=TextTowerConfig("clip", tokenizer="bytes", max_tokens=32, **shape),
        features=24,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SparseClip.build(config).eval()


def tiny_encoder() -> SparseEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SparseEncoder.build(EncoderConfig(24, "tiny", "tiny")).requires_grad_(False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "cache"))


def test_a_sparse_clip_gives_the_codes_that_it_gives_everyone() -> None:
    model, images = tiny_clip(), [photo(i).pixels for i in range(3)]
    encoder = SparseClipEncoder(model)
    found = encoder.image_codes(encoder.image_vectors(images))
    assert torch.allclose(found, model.encode_images(images), atol=1e-6)
    found = encoder.text_codes(encoder.text_vectors(TEXTS))
    assert torch.allclose(found, model.encode_texts(TEXTS), atol=1e-6)
    assert encoder.features == found.shape[1] == encoder.describe()["features"] == 24


def test_a_sparse_encoder_gives_the_codes_that_it_gives_everyone() -> None:
    model, images = tiny_encoder(), [photo(i) for i in range(3)]
    encoder = FrozenTrunkEncoder(model)
    found = encoder.image_codes(encoder.image_vectors([i.pixels for i in images]))
    rows = model.encode_images(images).dense()
    assert torch.allclose(found, rows[:: 1 + 9], atol=1e-5)  # the global codes
    found = encoder.text_codes(encoder.text_vectors(TEXTS))
    assert torch.equal(found, model.encode_texts(TEXTS))


def test_photographs_are_read_in_batches_without_the_broken_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparse_encoder.evaluation.evaluated.IMAGE_BATCH", 2)
    shard = tmp_path / "val-0000.tar"
    write_shard(shard, [(f"c{i}", png(i) if i != 1 else b"none", {}) for i in range(6)])
    encoder = SparseClipEncoder(tiny_clip())
    samples, vectors = encoder.read_images([shard])
    assert [s.key for s in samples] == ["c0", "c2", "c3", "c4", "c5"]
    assert all(not s.image for s in samples)
    one = encoder.image_vectors([photo(4).pixels])
    assert torch.allclose(vectors[3], one[0], atol=1e-6)


def test_a_sparse_clip_is_measured_from_its_exported_folder(tmp_path: Path) -> None:
    export_sparse_clip(tiny_clip(), tmp_path / "clip")
    data = tmp_path / "data"
    captions = [(f"c{i}", png(i), {"captions": [f"a thing {i}"]}) for i in range(5)]
    write_shard(data / "coco" / "val-0000.tar", list(captions))
    found = measure_encoder(load_evaluated(tmp_path / "clip"), data, templates=("mini",))
    assert found.encoder["image_trunk"] == "vit"
    assert found.sets["coco/val"].retrieval is not None


def test_a_dense_head_stays_dense(tmp_path: Path) -> None:
    """Its weights look like a sparse head's; read with a ReLU the figures would be another's."""
    model = tiny_encoder()
    model.save_heads(tmp_path)
    for activation in ("relu", "identity"):
        config = {"encoder": model.config_json(), "run": {"activation": activation}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        encoder = load_evaluated(tmp_path)
        assert encoder.describe()["activation"] == activation
        code = encoder.image_codes(encoder.image_vectors([photo(0).pixels]))
        assert bool((code < 0).any()) == (activation == "identity")


@pytest.mark.parametrize(
    ("config", "word"), [("{", "cannot read"), ('{"model_type": "clip"}', "clip")]
)
def test_a_folder_that_holds_no_encoder_is_refused(tmp_path: Path, config: str, word: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(SparsightError, match=word):
        load_evaluated(tmp_path)


def test_rows_are_made_when_asked_and_equal_all_at_once() -> None:
    vectors = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []

    def head(x: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        return (x @ torch.ones(4, 6)).relu()

    rows = CodeRows(vectors, head)
    code = torch.cat([c for _, c in rows.batches(3)])
    assert torch.equal(code, (vectors @ torch.ones(4, 6)).relu())
    assert asked == [3, 3, 1]
    backwards = torch.arange(6, -1, -1)
    assert torch.equal(rows[backwards], unit(code)[backwards])
    assert not torch.equal(rows[backwards], code[backwards])
