"""Whole towers behind the mini encoder's interface: codes with cells, sparse and dense."""

import json
from pathlib import Path

import pytest
import torch

from sparse_encoder.any_encoder import is_dense, load_encoder
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.towers.hub import export
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.photo_encoder import PhotoEncoder
from sparse_encoder.towers.presets import tower_preset
from tests.sparse_encoder.towers.tiny_towers import save_dense_clip
from tests.tiny_model import photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clip")
    export(SparseClip.build(tower_preset("vit-tiny-8x")).eval(), out)
    return out


def test_codes_are_the_models_own_and_cells_are_its_patches(folder: Path) -> None:
    encoder = load_encoder(folder)
    assert isinstance(encoder, PhotoEncoder)
    codes = encoder.encode_images([photo(1), photo(2)])
    assert (codes.n_images, codes.grid, codes.n_features) == (2, (4, 4), 128)
    rows = codes.dense().view(2, 17, 128)
    clip = encoder.clip
    pooled = clip.encode_images([photo(1).pixels, photo(2).pixels])
    torch.testing.assert_close(rows[:, 0], pooled)
    pixels = clip.image_trunk.preprocess([photo(1).pixels, photo(2).pixels])
    with torch.no_grad():
        cells = clip.image_head(clip.image_states(pixels).patches)
    torch.testing.assert_close(rows[:, 1:], cells)
    assert torch.equal(encoder.encode_texts(["a dog"]), clip.encode_texts(["a dog"]))


def test_photographs_in_one_batch_have_the_codes_that_each_has_alone(folder: Path) -> None:
    encoder = load_encoder(folder)
    pixels = torch.stack([encoder.preprocess(photo(i).pixels) for i in range(3)])
    together = encoder.codes_of_pixels(pixels).dense()
    alone = encoder.encode_images([photo(i) for i in range(3)]).dense()
    torch.testing.assert_close(together, alone)


def test_a_plain_clip_stays_dense_and_gives_its_own_embeddings(tmp_path: Path) -> None:
    clip = save_dense_clip(tmp_path)
    encoder = load_encoder(tmp_path)
    assert is_dense(encoder)
    codes = encoder.encode_images([photo(1)])
    assert codes.density() == 1.0 and bool((codes.value < 0).any())
    pixels = encoder.preprocess(photo(1).pixels)[None]
    with torch.no_grad():
        own = clip.get_image_features(pixel_values=pixels)
    own = getattr(own, "pooler_output", own)
    torch.testing.assert_close(codes.dense()[:1], own)


def test_a_mini_encoder_gives_the_same_codes_by_both_ways(tmp_path: Path) -> None:
    encoder = SparseEncoder.build(EncoderConfig(64, "tiny", "tiny"))
    pixels = torch.stack([encoder.preprocess(photo(i).pixels) for i in range(2)])
    one, other = encoder.codes_of_pixels(pixels), encoder.encode_images([photo(0), photo(1)])
    assert one.sha256() == other.sha256()
    encoder.save_heads(tmp_path)
    config = {"encoder": encoder.config_json(), "run": {"activation": "identity"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    dense = load_encoder(tmp_path)
    assert is_dense(dense)
    assert dense.codes_of_pixels(pixels).density() == 1.0
    with pytest.raises(SparsightError, match="dense"):
        dense.encode_images([photo(1)])


def test_a_model_on_towers_is_opened_as_such_and_refused_where_heads_are_needed(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "encoder").symlink_to(folder)
    entry = {**load_encoder(folder).config_json(), "folder": "encoder"}
    (tmp_path / "config.json").write_text(json.dumps({"encoder": entry}))
    assert isinstance(load_encoder(tmp_path), PhotoEncoder)
    with pytest.raises(SparsightError, match="whole towers"):
        SparseEncoder.load(tmp_path)


@pytest.mark.parametrize(
    ("config", "word"),
    [("{", "cannot read"), ('{"model_type": "bert"}', "of type 'bert'"), ("{}", "of type None")],
)
def test_another_folder_is_refused(tmp_path: Path, config: str, word: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(SparsightError, match=word):
        load_encoder(tmp_path)
