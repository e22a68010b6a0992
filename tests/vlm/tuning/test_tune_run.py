"""A whole run on a tiny encoder and a tiny language model, up to a caption of the result."""

from pathlib import Path

import pytest

from sparse_encoder.errors import SparsightError
from sparse_encoder.sae_encoder import SaeEncoder
from tests.tiny_model import photo
from vlm.pipeline import Pipeline, caption_request
from vlm.tuning.model_writer import write_encoder
from vlm.tuning.run import tune


def test_the_loss_falls_and_the_result_captions(
    encoder: Path, captions: list[str], talks: Path, words: str, tmp_path: Path
) -> None:
    losses = tune(
        "tiny-8x",
        tmp_path / "model",
        {"words": words, "stage2.lr_lora": 0.02, "stage2.lr_projector": 0.02},
        urls=captions,
        conversations=[talks],
        encoder=encoder,
    )
    assert len(losses) == 20
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    one, two = Pipeline.load(tmp_path / "model"), Pipeline.load(tmp_path / "model")
    assert one.fingerprint == two.fingerprint == one.atlas.fingerprint
    request = caption_request(photo(1))
    assert one.answer([request])[0].text == two.answer([request])[0].text


def test_an_imported_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="cannot be tuned on"):
        write_encoder(SaeEncoder.__new__(SaeEncoder), tmp_path, tmp_path)
