"""The export that vLLM serves: the same model, whole or not at all."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparse_encoder.errors import SparsightError
from tests.tiny_model import tiny_pipeline
from vlm.merged_checkpoint import cached_merged, is_merged, served_name, write_merged
from vlm.pipeline import Pipeline
from vlm.template import end_of_turn


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return tiny_pipeline()


def test_an_export_is_a_plain_checkpoint_of_the_same_model(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    made = write_merged(pipeline, tmp_path / "out")
    assert made.served_name == "tiny-ffffffffffff" == served_name("tiny", "f" * 64)
    loaded = AutoModelForCausalLM.from_pretrained(made.path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(made.path)
    rows = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(
            loaded(inputs_embeds=rows).logits, pipeline.model(inputs_embeds=rows).logits
        )
    assert tokenizer.chat_template == pipeline.tokenizer.chat_template
    config = json.loads((made.path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    generation = json.loads((made.path / "generation_config.json").read_text())
    assert generation == {"eos_token_id": end_of_turn(pipeline.tokenizer)}


def test_a_changed_byte_or_another_model_is_found_out(pipeline: Pipeline, tmp_path: Path) -> None:
    out = write_merged(pipeline, tmp_path / "out").path
    assert is_merged(out, "f" * 64)
    assert not is_merged(out, "e" * 64)
    weights = out / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert not is_merged(out, "f" * 64)


def test_a_folder_is_overwritten_only_when_told_to_and_only_if_it_is_ours(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    out = write_merged(pipeline, tmp_path / "out").path
    with pytest.raises(SparsightError, match="--force"):
        write_merged(pipeline, out)
    write_merged(pipeline, out, force=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(SparsightError, match="no export of ours"):
        write_merged(pipeline, other, force=True)
    assert (other / "thesis.txt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out"]


def test_the_cached_export_is_made_once_and_again_when_it_is_damaged(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path))
    first = cached_merged(pipeline)
    stamp = (first.path / "config.json").stat().st_ino
    assert (cached_merged(pipeline).path / "config.json").stat().st_ino == stamp
    (first.path / "model.safetensors").unlink()
    assert is_merged(cached_merged(pipeline).path, pipeline.fingerprint)
