import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTForImageClassification

from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.independent_embedding import (
    DEFAULT,
    Lite0,
    VisionModel,
    load_embedding,
)
from tests.tiny_model import photo

PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 16},
    "crop_size": {"height": 16, "width": 16},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


def write_clip(folder: Path, seed: int = 0) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        CLIPVisionModel(CLIPVisionConfig(**SHAPE)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def test_a_vision_model_from_a_folder_gives_its_pooled_output(tmp_path: Path) -> None:
    embedding = load_embedding(str(write_clip(tmp_path / "clip")))
    assert isinstance(embedding, VisionModel)
    pixels = embedding.preprocess([photo(1).pixels, photo(2).pixels])
    pooled = CLIPVisionModel.from_pretrained(tmp_path / "clip")(pixel_values=pixels).pooler_output
    assert torch.allclose(embedding(pixels)[:, 0], pooled, atol=1e-6)
    assert "clip" in embedding.limit


def test_models_of_other_weights_have_other_names(tmp_path: Path) -> None:
    """The name is that of the cache: one name for two models would mix their embeddings."""
    names = [VisionModel(str(write_clip(tmp_path / f"{i}" / "clip", i % 2))).name for i in range(3)]
    assert names[0] == names[2] != names[1]


def test_a_checkpoint_whose_pooled_output_would_be_random_is_refused(tmp_path: Path) -> None:
    ViTForImageClassification(ViTConfig(**SHAPE)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with pytest.raises(SparsightError, match="would be random"):
        load_embedding(str(tmp_path))


def test_what_is_no_vision_model_is_refused_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match=f"'{DEFAULT}', 'trunk', or a folder"):
        load_embedding(str(tmp_path / "none"))


def test_the_trunk_has_no_embedding_of_its_own() -> None:
    assert load_embedding("trunk") is None


@pytest.mark.model
def test_the_default_tells_photographs_apart_and_is_no_trunk_of_ours() -> None:
    embedding = load_embedding(DEFAULT)
    assert isinstance(embedding, Lite0)
    plain = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    out = embedding(embedding.preprocess([*plain, photo(3).pixels]))
    assert out.shape == (3, 1, 1280)
    cosine = torch.nn.functional.normalize(out[:, 0], dim=1)
    assert float((cosine @ cosine.T).fill_diagonal_(0).max()) < 0.999
