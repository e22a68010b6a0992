"""A calibration changes neither what a model is called nor what it answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DoseCurve, Doses
from tests.tiny_model import photo, tiny_pipeline
from vlm.default_dose import UncalibratedError
from vlm.dose_response import judged
from vlm.edits import Edit
from vlm.model_folder import read_model
from vlm.pipeline import Pipeline, Sampling, caption_request

CURVE = DoseCurve("dog", 16, None, "dog", (0.5, 1.0), 40, (9, 9), (0, 0), 0.5, 0.5, True)


@pytest.fixture
def tiny() -> Pipeline:
    return tiny_pipeline()


def calibrate_by_hand(pipeline: Pipeline) -> Doses:
    atlas = pipeline.atlas
    doses = Doses(atlas.fingerprint, atlas.scales_sha256, {"corruption": 0.1}, (CURVE,))
    pipeline.atlas = replace(atlas, doses=doses)
    return doses


def test_the_file_of_doses_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    config = {"name": "m", "encoder": {"image_trunk": "tiny", "text_trunk": "tiny"}, "llm": "tiny"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in ("adapter", "features"):
        (tmp_path / name).mkdir()
    for name in (
        "encoder.safetensors", "projector.safetensors", "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    ):  # fmt: skip
        (tmp_path / name).write_bytes(b"weights")
    before = read_model(tmp_path).fingerprint
    Doses(before, "s", {}, (CURVE,)).save(tmp_path / "features")
    assert read_model(tmp_path).fingerprint == before


def test_codes_and_answers_to_given_doses_do_not_change(tiny: Pipeline) -> None:
    edits = (Edit("clamp", "dog", value=1.0),)
    request = caption_request(photo(0), edits=edits, sampling=Sampling(max_tokens=5))
    (before,) = tiny.answer([request])
    doses = calibrate_by_hand(tiny)
    (after,) = tiny.answer([request])
    assert before.receipt is not None and after.receipt is not None
    assert (before.text, before.receipt.codes_sha256) == (after.text, after.receipt.codes_sha256)
    assert (before.receipt.calibration, after.receipt.calibration) == (None, doses.sha256)
    assert [line for line in after.receipt.warnings if "safe dose" in line]
    assert not [line for line in before.receipt.warnings if "safe dose" in line]


def test_a_clamp_without_a_value_works_once_the_model_is_calibrated(tiny: Pipeline) -> None:
    codes = tiny.encode([photo(0)])
    with pytest.raises(UncalibratedError):
        tiny.steer(codes, [Edit("clamp", "dog")])
    calibrate_by_hand(tiny)
    given = tiny.steer(codes, [Edit("clamp", "dog", value=0.5)])
    assert tiny.steer(codes, [Edit("clamp", "dog")]).codes.sha256() == given.codes.sha256()


def test_the_text_tower_is_asked_once_for_one_set_of_concepts(
    tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    encode = tiny.encoder.encode_texts
    monkeypatch.setattr(
        tiny.encoder, "encode_texts", lambda texts: asked.append(texts) or encode(texts)
    )
    codes = tiny.encode([photo(0)])
    for value in (1.0, 2.0):
        tiny.steer(codes, [Edit("clamp", "dog", value=value)])
    tiny.steer(codes, [Edit("clamp", "cat", value=1.0)])
    assert len(asked) == 2


def test_the_shipped_doses_belong_to_the_shipped_model_and_follow_from_their_counts() -> None:
    folder = read_model("sparsight-mini")
    atlas = FeatureAtlas.load(folder.path / "features", fingerprint=folder.fingerprint)
    assert atlas.doses is not None and atlas.doses.curves
    bars = atlas.doses.settings["success"], atlas.doses.settings["corruption"]
    assert [judged(curve, *bars) for curve in atlas.doses.curves] == list(atlas.doses.curves)
