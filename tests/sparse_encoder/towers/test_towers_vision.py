"""Image trunks: each family and named backbone gives pooled vectors and patches that train."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_encoder.errors import SparsightError
from sparse_encoder.image_trunk import EfficientNetLite
from sparse_encoder.towers.vision import ImageTrunk, MiniImageTrunk, build_image_trunk
from tests.sparse_encoder.towers.tiny_towers import (
    PIXELS,
    SHAPE,
    image_config,
    photos,
    pixels,
    save_backbone,
    save_dense_clip,
    seeded,
)

FAMILIES = ["clip", "siglip", "dinov2", "vit"]
VIT = SHAPE | {"image_size": 32, "patch_size": 8}
BACKBONES = {  # model type -> (shape, patches of 32 x 32 pixels, width)
    "clip_vision_model": (VIT, 16, 32),
    "siglip_vision_model": (VIT, 16, 32),
    "dinov2": (VIT | {"mlp_ratio": 2}, 16, 32),
    "dinov2_with_registers": (VIT | {"mlp_ratio": 2, "num_register_tokens": 3}, 16, 32),
    "dinov3_vit": (VIT | {"num_register_tokens": 2}, 16, 32),
    "vit": (VIT, 16, 32),
    "deit": (VIT, 16, 32),
    "convnext": ({"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, 16, 16),
    "resnet": ({"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}, 16, 16),
    "swin": (
        {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1]}
        | {"window_size": 4},
        16,
        16,
    ),
}


def _trunk(family: str, **changes: object) -> ImageTrunk:
    trunk = seeded(lambda: build_image_trunk(image_config(backbone=family, **changes)))
    assert isinstance(trunk, ImageTrunk)
    return trunk


@pytest.mark.parametrize("pool", ["own", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_states_have_their_shapes_and_train_every_parameter(
    family: str, pool: str
) -> None:
    trunk = _trunk(family, pool=pool)
    states = trunk(pixels(2))
    assert states.pooled.shape == (2, 32) and states.patches.shape == (2, 16, 32)
    states.pooled.square().sum().backward()
    without = [n for n, p in trunk.named_parameters() if p.requires_grad and p.grad is None]
    assert not without  # DDP refuses such parameters


@pytest.mark.parametrize("kind", BACKBONES)
def test_any_vision_backbone_in_a_folder_gives_pooled_vectors_and_patches(
    kind: str, tmp_path: Path
) -> None:
    shape, n_patches, width = BACKBONES[kind]
    folder = save_backbone(tmp_path, kind, **shape)
    config = image_config(backbone=folder, size=32, **PIXELS)
    trunk = build_image_trunk(config)
    states = trunk.train()(pixels(2))
    assert states.pooled.shape == (2, width) and states.patches.shape == (2, n_patches, width)
    states.pooled.square().sum().backward()
    without = [n for n, p in trunk.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.parametrize("kind", ["vit", "clip_vision_model"])
def test_a_named_backbone_has_its_weights_unless_random_ones_are_asked_for(
    kind: str, tmp_path: Path
) -> None:
    folder = save_backbone(tmp_path, kind, **BACKBONES[kind][0])
    own = build_image_trunk(image_config(backbone=folder)).state_dict()
    again = build_image_trunk(image_config(backbone=folder)).state_dict()
    fresh = build_image_trunk(image_config(backbone=folder, pretrained=False)).state_dict()
    assert own.keys() == again.keys() == fresh.keys()
    assert all(torch.equal(own[k], again[k]) for k in own)
    assert any(not torch.equal(own[k], fresh[k]) for k in own)


def test_of_a_whole_clip_the_vision_tower_is_taken(tmp_path: Path) -> None:
    clip = save_dense_clip(tmp_path)
    trunk = build_image_trunk(image_config(backbone=str(tmp_path))).eval()
    x = pixels(2)
    with torch.no_grad():
        expected = clip.vision_model(pixel_values=x)
        states = trunk(x)
        patches = clip.vision_model.post_layernorm(expected.last_hidden_state)[:, 1:]
    assert torch.equal(states.pooled, expected.pooler_output)
    assert torch.equal(states.patches, patches)


def test_the_image_size_and_pixels_of_a_folder_go_before_the_defaults(tmp_path: Path) -> None:
    save_dense_clip(tmp_path, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    config = build_image_trunk(image_config(backbone=str(tmp_path), size=224)).config
    assert (config.size, config.mean, config.deviation) == (32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    given = build_image_trunk(image_config(backbone=str(tmp_path), **PIXELS)).config
    assert (given.mean, given.deviation) == (PIXELS["mean"], PIXELS["deviation"])


def test_pixels_of_an_unknown_kind_are_asked_for_and_not_guessed(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "resnet", **BACKBONES["resnet"][0])
    with pytest.raises(SparsightError, match="give image.mean and image.deviation"):
        build_image_trunk(image_config(backbone=folder))


@pytest.mark.parametrize("pool", ["own", "mean"])
def test_patches_and_the_mean_pool_agree(pool: str) -> None:
    trunk = _trunk("dinov2", pool=pool).eval()
    states = trunk(pixels(2))
    same = torch.allclose(states.pooled, states.patches.mean(1), atol=1e-6)
    assert same == (pool == "mean")


def test_patches_are_in_reading_order() -> None:
    trunk = _trunk("siglip").eval()
    x = torch.zeros(1, 3, 32, 32)
    x[:, :, 8:16, 24:32] = 5.0  # row 1, column 3 of 4
    with torch.no_grad():
        change = (trunk(x).patches - trunk(torch.zeros(1, 3, 32, 32)).patches).norm(dim=-1)[0]
    assert int(change.argmax()) == 1 * 4 + 3


def test_a_frozen_trunk_neither_trains_nor_drops_out() -> None:
    trunk = _trunk("vit", frozen=True)
    trunk.train()
    assert not trunk.training and not trunk.model.training
    assert not any(p.requires_grad for p in trunk.parameters())
    assert not trunk(pixels(1)).pooled.requires_grad


@pytest.mark.parametrize("size", [(40, 56), (56, 40), (32, 32), (20, 70), (300, 33)])
def test_preprocessing_equals_clips_own(size: tuple[int, int]) -> None:
    from transformers import CLIPImageProcessorPil

    trunk = _trunk("clip")
    theirs = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    image = photos(1, size)
    expected = theirs(images=image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(trunk.preprocess(image), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_other_modes_are_taken_as_rgb(mode: str) -> None:
    image = photos(1)[0].convert(mode)
    out = _trunk("clip").preprocess([image, photos(1)[0]])
    assert out.shape == (2, 3, 32, 32) and torch.isfinite(out).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bf16_trunk_takes_fp32_pixels_and_is_near_the_fp32_one(family: str) -> None:
    trunk = _trunk(family).eval()
    with torch.no_grad():
        full = trunk(pixels(2))
        half = trunk.bfloat16()(pixels(2))
    assert half.pooled.dtype == half.patches.dtype == torch.bfloat16
    torch.testing.assert_close(half.pooled.float(), full.pooled, atol=0.1, rtol=0.1)


def test_the_mini_trunk_gives_its_cells_to_a_head_that_trains() -> None:
    config = image_config(backbone="efficientnet-lite2", frozen=True)
    trunk = seeded(lambda: build_image_trunk(config, {"model_type": "efficientnet-lite2"}))
    assert isinstance(trunk, MiniImageTrunk) and isinstance(trunk.model, EfficientNetLite)
    x = trunk.preprocess([Image.fromarray(np.zeros((30, 50, 3), np.uint8))])
    states = trunk.train()(x)
    assert states.patches.shape == (1, 81, 1280) and states.pooled.shape == (1, 1280)
    assert torch.equal(states.patches, trunk.model(x))
    weight = torch.zeros(4, 1280, requires_grad=True)
    (
        states.pooled @ weight.T + states.patches @ weight.T
    ).sum().backward()  # an inference tensor would fail here
    assert weight.grad is not None


def test_a_text_model_is_refused_as_an_image_trunk(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "bert", **SHAPE, vocab_size=300)
    with pytest.raises(SparsightError, match="BertModel reads input_ids"):
        build_image_trunk(image_config(backbone=folder, **PIXELS))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_name_that_cannot_be_had_says_so_and_what_to_do(pretrained: bool) -> None:
    with pytest.raises(SparsightError, match="copy its folder") as caught:
        build_image_trunk(image_config(backbone="openai/clip-vit-none", pretrained=pretrained))
    assert "'openai/clip-vit-none'" in str(caught.value)
    assert (caught.value.param, caught.value.code) == ("image.backbone", "backbone_not_found")


@pytest.mark.parametrize("content", [None, "{", json.dumps({"model_type": "no-such-model"})])
def test_a_folder_without_a_model_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(SparsightError, match="image backbone"):
        build_image_trunk(image_config(backbone=str(tmp_path)))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
