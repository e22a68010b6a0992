"""A model in the Hugging Face layout comes back equal, by our loader and by AutoModel."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from sparse_encoder.errors import SparsightError
from sparse_encoder.towers import SparseClip, SparseClipModel, export, load, train_tokenizer
from tests.sparse_encoder.towers.tiny_towers import (
    PIXELS,
    SHAPE,
    TEXTS,
    image_config,
    photos,
    pixels,
    save_backbone,
    seeded,
    text_config,
    tiny_clip,
)


def _trained(model: SparseClip) -> SparseClip:
    """Moves every weight away from what any initialiser would give."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter)).mul_(1.1)
    return model


CASES: dict[str, dict[str, Any]] = {
    "clip": {},
    "siglip": {"image": image_config(backbone="siglip"), "loss": "siglip"},
    "siglip, mean": {"image": image_config(backbone="siglip", pool="mean")},
    "dinov2": {"image": image_config(backbone="dinov2", frozen=True)},
    "vit": {"image": image_config(backbone="vit", projection=0), "activation": "identity"},
    "batch_topk": {"activation": "batch_topk", "k": 5, "features": 90},
    "topk": {"activation": "topk", "k": 5},
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_loads_back_equal(name: str, tmp_path: Path) -> None:
    model = _trained(tiny_clip(**CASES[name]))
    model.train()(pixels(8), model.text_trunk.tokenize(TEXTS * 3))  # moves batch_topk's threshold
    model.eval()
    export(model, tmp_path)
    again = load(tmp_path)
    assert again.config == model.config and not again.training
    _same(again, model)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())
    flags = [{n for n, p in m.named_parameters() if p.requires_grad} for m in (again, model)]
    assert flags[0] == flags[1]


def _same(one: SparseClip, other: SparseClip) -> None:
    assert torch.equal(one.encode_images(photos(3)), other.encode_images(photos(3)))
    assert torch.equal(one.encode_texts(TEXTS), other.encode_texts(TEXTS))


def test_a_model_of_named_backbones_loads_without_them(tmp_path: Path) -> None:
    vision = save_backbone(
        tmp_path / "v", "dinov2_with_registers", **SHAPE, image_size=32, patch_size=8
    )
    words = save_backbone(
        tmp_path / "t", "llama", **SHAPE, vocab_size=300, max_position_embeddings=40
    )
    model = tiny_clip(
        image=image_config(backbone=vision, **PIXELS),
        text=text_config(backbone=words, tokenizer=""),
    )
    export(model, tmp_path / "sparse")
    for part in ("v", "t"):
        (tmp_path / part).rename(tmp_path / f"{part}-gone")
    _same(load(tmp_path / "sparse"), model)


def test_exporting_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = _trained(tiny_clip())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export(model, tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_auto_model_tokenizer_and_image_processor_give_the_same_codes(tmp_path: Path) -> None:
    model = tiny_clip()
    export(model, tmp_path)
    auto = AutoModel.from_pretrained(tmp_path)
    assert type(auto) is SparseClipModel and not auto.training
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    images = processor(photos(3), return_tensors="pt")
    words = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = auto(**images, **words)
    # 2e-3: the processor scales in another order, and a code adds up 3,072 pixels.
    torch.testing.assert_close(out.image_code, model.encode_images(photos(3)), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(out.text_code, model.encode_texts(TEXTS), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_importing_the_package_is_all_that_auto_model_needs(tmp_path: Path) -> None:
    export(tiny_clip(), tmp_path)
    program = (
        "import sparse_encoder.towers; from transformers import AutoModel; import sys;"
        "sys.stdout.write(type(AutoModel.from_pretrained(sys.argv[1])).__name__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert run.stdout == "SparseClipModel"


def test_bf16_weights_are_saved_and_loaded_as_bf16(tmp_path: Path) -> None:
    model = tiny_clip().bfloat16()
    export(model, tmp_path)
    again = load(tmp_path)
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    _same(again, model)


def test_auto_model_can_load_in_another_precision(tmp_path: Path) -> None:
    export(tiny_clip(), tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_the_config_names_no_folder_of_this_machine_but_those_the_user_gave(tmp_path: Path) -> None:
    shape = SHAPE | {"image_size": 32, "patch_size": 8}
    folder = save_backbone(tmp_path / "vit", "vit", **shape)
    model = tiny_clip(image=image_config(backbone=folder))
    export(model, tmp_path / "sparse")
    data = json.loads((tmp_path / "sparse" / "config.json").read_text())
    assert data["sparse_clip"]["image"]["backbone"] == folder
    del data["sparse_clip"]
    assert str(tmp_path) not in json.dumps(data)
    assert data["model_type"] == "sparse_clip"


def test_a_model_on_the_mini_trunk_loads_without_its_part(tmp_path: Path) -> None:
    config = replace(
        tiny_clip().config, image=image_config(backbone="efficientnet-lite2", frozen=True)
    )
    model = seeded(
        lambda: SparseClip.build(config, image_shape={"model_type": "efficientnet-lite2"})
    ).eval()
    export(model, tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    _same(load(tmp_path), model)


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "no readable config.json"), ("{", "no readable"), ('{"model_type": "bert"}', "'bert'")],
)
def test_a_folder_with_another_model_is_refused(
    content: str | None, word: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(SparsightError, match=word):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "keep", "words"),
    [
        ("model.safetensors", 0, "bytes"),
        ("model.safetensors", 1000, "bytes"),
        ("tokenizer.json", 0, "bytes"),
        ("tokenizer.json", 0, "trained"),  # of this one transformers makes an empty one
    ],
)
def test_a_file_that_is_missing_or_cut_off_is_refused(
    file: str, keep: int, words: str, tmp_path: Path
) -> None:
    if words == "trained":
        words = str(tmp_path / "words")
        train_tokenizer(TEXTS * 9, 600).save_pretrained(words)
    export(tiny_clip(text=text_config(tokenizer=words)), tmp_path)
    content = (tmp_path / file).read_bytes()[:keep]
    (tmp_path / file).unlink()
    if keep:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(SparsightError, match="cannot be read|export it again|hub did not give"):
        load(tmp_path)


def test_a_config_without_the_models_own_part_is_refused(tmp_path: Path) -> None:
    export(tiny_clip(), tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(data | {"sparse_clip": {"image": {}}}))
    with pytest.raises(SparsightError, match="no configuration of a sparse CLIP"):
        load(tmp_path)


def test_a_folder_with_another_models_weights_is_refused(tmp_path: Path) -> None:
    export(tiny_clip(), tmp_path / "a")
    export(tiny_clip(features=64), tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(SparsightError, match="export the model again"):
        load(tmp_path / "a")
    export(tiny_clip(loss="siglip"), tmp_path / "c")
    (tmp_path / "c" / "model.safetensors").write_bytes(
        (tmp_path / "a" / "model.safetensors").read_bytes()
    )
    with pytest.raises(SparsightError, match="export the model again"):
        load(tmp_path / "c")
