"""A model opens for its features without a language model, and only with its own atlas."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from serving.features import opened
from serving.features.opened import open_features
from sparse_encoder.atlas_build import build_atlas
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import decode_image
from vlm.model_folder import ModelFolder

WORDS = ["dog", "cat", "red", "blue"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Any) -> Path:
    """An encoder with a tiny trunk and its atlas; as if its fingerprint were f..."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SparseEncoder.build(EncoderConfig(16, "tiny", "tiny"))
    for head in (encoder.image_head, encoder.text_head):
        torch.nn.init.zeros_(head.bias)
    config = {"name": "tiny", "encoder": encoder.config_json()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder.save_heads(tmp_path)
    images = [decode_image(photo(colour)) for colour in ("red", "blue", "green")]
    codes = encoder.encode_images(images)
    build_atlas(encoder, [codes], WORDS, fingerprint="f" * 64).save(tmp_path / "features")
    folder = ModelFolder(tmp_path, config, "f" * 64)
    monkeypatch.setattr(opened, "read_encoder_model", lambda _: folder)
    return tmp_path


def test_words_and_photographs_find_features_of_the_model(
    model: Path, tmp_path: Path, photo: Any
) -> None:
    (tmp_path / "album").mkdir()
    for colour in ("red", "blue"):
        (tmp_path / "album" / f"{colour}.png").write_bytes(photo(colour))
    found = open_features(model)
    assert found.name == "tiny"
    named = [
        j for j, name in enumerate(found.atlas.names) if name == "dog" and found.atlas.density[j]
    ]
    best = [f.feature for f in found.finder.search("dog").features if f.match == "equal"]
    assert set(named) <= set(best)
    assert len(found.finder.neighbours(best[0])) > 0
    codes = list(found.codes([str(tmp_path / "album")]))
    assert [c.n_images for c in codes] == [1, 1]


def test_the_atlas_of_another_model_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ModelFolder(model, {"name": "tiny"}, "e" * 64)
    monkeypatch.setattr(opened, "read_encoder_model", lambda _: folder)
    with pytest.raises(SparsightError, match="made for model ffffffffffff") as caught:
        open_features(model)
    assert caught.value.code == "other_fingerprint"
