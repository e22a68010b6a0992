"""What a config accepts, refuses and gives back; the presets' numbers are the paper's."""

import json

import pytest
import torch

from sparse_encoder.errors import SparsightError
from sparse_encoder.run_config import override
from sparse_encoder.towers import SparseClip, SparseClipConfig, tower_preset
from sparse_encoder.towers.config import ImageTowerConfig, TextTowerConfig
from sparse_encoder.towers.presets import TOWER_PRESETS


@pytest.mark.parametrize("name", TOWER_PRESETS)
def test_a_config_loads_back_equal_from_json(name: str) -> None:
    config = tower_preset(name)
    assert SparseClipConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("name", "joint", "features", "head_weights"),
    [("vit-b32-32x", 512, 16_384, 8_388_608), ("vit-l14-72x", 768, 55_296, 42_467_328)],
)
def test_a_preset_has_the_papers_width(
    name: str, joint: int, features: int, head_weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A vocabulary of CLIP's size without CLIP's file.
    monkeypatch.setattr("sparse_encoder.towers.text.load_tokenizer", lambda _: _ClipSized())
    with torch.device("meta"):
        model = SparseClip.build(tower_preset(name))
    assert model.features == features
    assert model.image_head.weight.shape == model.text_head.weight.shape == (features, joint)
    assert model.image_head.weight.numel() == head_weights
    assert model.config.image.size == 224


@pytest.mark.parametrize(
    ("name", "image", "text"),
    # open_clip 3.3 on its own configs: ViT-B-32 has 151,277,313 parameters, ViT-L-14 427,616,513;
    # the scale is the one left over.
    [("vit-b32-32x", 87_849_216, 63_428_096), ("vit-l14-72x", 303_966_208, 123_650_304)],
)
def test_a_presets_dense_towers_have_open_clips_parameters(
    name: str, image: int, text: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparse_encoder.towers.text.load_tokenizer", lambda _: _ClipSized())
    with torch.device("meta"):
        model = SparseClip.build(tower_preset(name))
    towers = (
        (model.image_trunk, model.image_projection, image),
        (model.text_trunk, model.text_projection, text),
    )
    for trunk, projection, expected in towers:
        assert sum(p.numel() for part in (trunk, projection) for p in part.parameters()) == expected


def test_the_large_presets_head_adds_fourteen_percent_to_its_vision_tower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sparse_encoder.towers.text.load_tokenizer", lambda _: _ClipSized())
    with torch.device("meta"):
        model = SparseClip.build(tower_preset("vit-l14-72x"))
    dense = sum(p.numel() for p in model.image_trunk.parameters())
    assert model.image_head.weight.numel() / dense == pytest.approx(0.14, abs=0.001)


class _ClipSized:
    bos_token_id, eos_token_id, pad_token_id = 49_406, 49_407, 49_407

    def __len__(self) -> int:
        return 49_408


def test_width_comes_from_the_number_or_else_from_the_factor() -> None:
    config = SparseClipConfig(expansion=2.5)
    assert config.n_features(16) == 40
    assert override(config, {"features": 100}).n_features(16) == 100


def test_settings_reach_into_the_towers() -> None:
    config = override(SparseClipConfig(), {"image.layers": 3, "text.tokenizer": "bytes", "cap": 40})
    assert (config.image.layers, config.text.tokenizer, config.cap) == (3, "bytes", 40.0)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"image.pool": "max"}, "own or mean"),
        ({"image.projection": -1}, "image.projection=-1"),
        ({"image.patch": 33}, "no multiple of image.patch=33"),
        ({"image.patch": 0}, "image.patch=0"),
        ({"image.heads": 5}, "heads divide"),
        ({"image.layers": 0}, "image.layers=0"),
        ({"image.backbone": "efficientnet-lite2"}, "image.frozen"),
        ({"image.mean": (0.5,)}, "three numbers"),
        ({"text.pool": "first"}, "last or mean"),
        ({"text.max_tokens": 1}, "at least 2"),
        ({"text.projection": -2}, "text.projection=-2"),
        ({"text.tokenizer": ""}, "text.tokenizer is empty"),
        ({"text.heads": 7}, "heads divide"),
        ({"features": -1}, "features=-1"),
        ({"expansion": 0.0}, "expansion=0"),
        ({"loss": "triplet"}, "infonce or siglip"),
        ({"cap": 0.5}, "cap=0.5"),
        ({"l1": -0.1}, "l1=-0.1"),
        ({"features": 8, "activation": "gelu"}, "expected relu"),
        ({"features": 8, "activation": "topk"}, "k=0"),
        ({"image.widht": 3}, "no setting"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], word: str) -> None:
    with pytest.raises(SparsightError, match=word) as caught:
        override(SparseClipConfig(), settings)
    assert caught.value.param


@pytest.mark.parametrize(
    "data",
    [{}, {"image": {}, "text": {"colour": 1}}, {"image": [], "text": {}}, {"image": {}, "text": 3}],
)
def test_json_of_another_kind_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(SparsightError, match="no configuration of a sparse CLIP"):
        SparseClipConfig.from_json(data)


def test_the_rule_for_k_holds_for_a_width_by_factor_too() -> None:
    config = override(tower_preset("vit-tiny-8x"), {"activation": "topk", "k": 4_000})
    with pytest.raises(SparsightError, match="k=4000"):
        SparseClip.build(config)


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SparsightError, match="vit-l14-72x"):
        tower_preset("vit-h14")


def test_defaults_can_be_built_from() -> None:
    assert ImageTowerConfig().backbone == "clip" == TextTowerConfig(tokenizer="bytes").backbone
