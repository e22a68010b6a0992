"""A folder with an encoder alone has a fingerprint of all that its features depend on."""

import json
from pathlib import Path

import pytest

from sparse_encoder.errors import SparsightError
from sparse_encoder.import_sae import import_sae
from tests.sparse_encoder.test_import_sae import a_heads_model, an_sae
from vlm.model_folder import read_encoder_model, read_model


def test_weights_and_config_are_in_the_fingerprint(tmp_path: Path) -> None:
    folder = a_heads_model(tmp_path / "model")
    first = read_encoder_model(folder)
    assert first.name == "tiny"
    assert read_encoder_model(folder).fingerprint == first.fingerprint
    weights = folder / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    other_weights = read_encoder_model(folder).fingerprint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "name": "other"}))
    assert len({first.fingerprint, other_weights, read_encoder_model(folder).fingerprint}) == 3


def test_imports_of_two_autoencoders_differ(tmp_path: Path) -> None:
    model = str(a_heads_model(tmp_path / "model"))
    found = set()
    for name, how in (("a", "none"), ("b", "layer_norm")):
        source = an_sae(tmp_path / f"sae-{name}", 16, normalize_activations=how)
        import_sae(source, model, tmp_path / f"home-{name}" / "new")
        found.add(read_encoder_model(tmp_path / f"home-{name}" / "new").fingerprint)
    assert len(found) == 2


@pytest.mark.parametrize("file", ["encoder.safetensors", "config.json"])
def test_what_is_missing_is_named(tmp_path: Path, file: str) -> None:
    folder = a_heads_model(tmp_path / "model")
    (folder / file).unlink()
    with pytest.raises(SparsightError, match=file):
        read_encoder_model(folder)


def test_an_encoder_alone_is_no_captioner(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="no complete model"):
        read_model(a_heads_model(tmp_path / "model"))
