"""The trunks in the box, as they come out of their wheels."""

import json

import pytest
from safetensors.torch import load_file

from sparse_encoder.mini_parts import IMAGE_TRUNK_PART, TEXT_TRUNK_PART
from sparse_encoder.parts import ensure_part

pytestmark = pytest.mark.model


def test_the_image_trunk_has_a_classifier_over_1280_channels() -> None:
    state = load_file(ensure_part(IMAGE_TRUNK_PART) / "model.safetensors")
    assert state["_fc.weight"].shape == (1000, 1280)
    assert state["_conv_head.weight"].shape[0] == 1280


def test_the_text_trunk_holds_model_and_tokenizer() -> None:
    folder = ensure_part(TEXT_TRUNK_PART)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 384
    assert (folder / "tokenizer.json").is_file()
