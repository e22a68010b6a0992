"""The preset for SmolLM2 with its real weights and the encoder in the box: a few steps learn something."""

from pathlib import Path

import pytest

from tests.tiny_model import photo
from vlm.pipeline import Pipeline, caption_request
from vlm.tuning.run import tune


@pytest.mark.model
@pytest.mark.slow
def test_the_smollm2_preset_learns_from_a_few_captions(
    captions: list[str], talks: Path, words: str, tmp_path: Path
) -> None:
    settings = {
        "words": words,
        "atlas_images": 8,
        "captions": 1,
        "stage1.samples": 1,
        "stage1.batch": 1,
        "stage2.samples": 6,
        "stage2.batch": 1,
        "stage2.conversations": 0.5,
        "workers": 0,
    }
    losses = tune("smollm2", tmp_path, settings, urls=captions, conversations=[talks])
    assert len(losses) == 7
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    answer = Pipeline.load(tmp_path).answer([caption_request(photo(1))])[0]
    assert answer.text.strip()
