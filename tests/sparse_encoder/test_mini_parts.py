"""The trunks in the box, as they come out of their wheels."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from sparse_encoder.image_trunk import EfficientNetLite
from sparse_encoder.mini_parts import IMAGE_TRUNK_PART, TEXT_TRUNK_PART
from sparse_encoder.parts import ensure_part

pytestmark = pytest.mark.model


def test_the_image_trunk_has_a_classifier_over_1280_channels() -> None:
    state = load_file(ensure_part(IMAGE_TRUNK_PART) / "model.safetensors")
    assert state["_fc.weight"].shape == (1000, 1280)
    assert state["_conv_head.weight"].shape[0] == 1280


def test_folding_norms_and_padding_into_convolutions_leaves_the_map_as_it_was() -> None:
    folder = ensure_part(IMAGE_TRUNK_PART)
    folded, plain = EfficientNetLite.load(folder), EfficientNetLite()
    plain.net.load_state_dict(load_file(folder / "model.safetensors"))
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    pixels = plain.preprocess([Image.fromarray(noise)])
    torch.testing.assert_close(folded(pixels), plain(pixels), rtol=1e-3, atol=1e-4)
    modules = {type(module) for module in folded.modules()}
    assert nn.BatchNorm2d in {type(module) for module in plain.modules()} - modules


def test_the_text_trunk_holds_model_and_tokenizer() -> None:
    folder = ensure_part(TEXT_TRUNK_PART)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 384
    assert (folder / "tokenizer.json").is_file()
