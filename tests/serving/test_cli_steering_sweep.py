"""`sparsight steering sweep` and `calibrate` over the tiny pipeline."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from serving.cli import steering_calibrate
from serving.cli.main import main
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DOSES_FILE
from tests.tiny_model import photo, png, tiny_pipeline, write_shard
from vlm import model_folder
from vlm.pipeline import Pipeline
from vlm.sweep import sweep


@pytest.fixture(scope="module")
def tiny() -> Pipeline:
    return tiny_pipeline()


@pytest.fixture(autouse=True)
def folder(tiny: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a photograph and data; any model is the tiny one."""
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: tiny)
    where = SimpleNamespace(path=tmp_path / "model", fingerprint=tiny.fingerprint)
    monkeypatch.setattr(model_folder, "read_model", lambda _: where)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "model" / "features").mkdir(parents=True)
    for name in ("flickr8k/val-0000", "coco/val-0000", "zeroshot/pets-test"):
        label = {"label": "cat"} if name.startswith("zeroshot") else {"captions": ["A dog."]}
        seed = len(name) * 10
        shard = [(f"{name[:4]}{i}", png(seed + i), label) for i in range(3)]
        write_shard(tmp_path / "data" / f"{name}.tar", list(shard))
    return tmp_path


def run(*arguments: str, code: int = 0, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(main, ["steering", *arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


SWEEP = ("sweep", "a.png", "--concept", "dog", "--doses", "0,1", "--max-tokens", "4")
CALIBRATE = ("calibrate", "model", "--data", "data", "--images", "2", "--doses", "1,2")


def test_a_sweep_prints_a_line_a_dose_and_json_is_the_functions(tiny: Pipeline) -> None:
    shown = run(*SWEEP)
    lines = shown.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["unsteered", "0", "1"]
    assert "2 doses" in shown.stderr
    found = json.loads(run(*SWEEP, "--json").stdout)
    plain = sweep(tiny, photo(0), concept="dog", doses=(0.0, 1.0), max_tokens=4)
    assert [point["text"] for point in found["points"]] == [p.answer.text for p in plain.points]
    assert run(*SWEEP[:1], "-", *SWEEP[2:], stdin=png(0)).stdout == shown.stdout


def test_a_plot_is_not_written_over_without_force(folder: Path) -> None:
    run(*SWEEP, "--out", "plot.svg")
    drawn = (folder / "plot.svg").read_text()
    assert drawn.startswith("<svg")
    assert "--force" in run(*SWEEP, "--out", "plot.svg", code=2).stderr
    (folder / "plot.svg").write_text("mine")
    run(*SWEEP, "--out", "plot.svg", "--force")
    assert (folder / "plot.svg").read_text() == drawn


def test_a_calibration_goes_into_the_atlas_and_is_used_from_there(
    folder: Path, tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run(*CALIBRATE, "--concepts", "dog, cat", "--features", "2")
    assert shown.stdout.count("effective") >= 4
    tiny.atlas.save(folder / "model" / "features")
    atlas = FeatureAtlas.load(folder / "model" / "features")
    assert atlas.doses is not None and len(atlas.doses.curves) == 4
    found = json.loads(run(*CALIBRATE, "--concepts", "dog,cat", "--json").stdout)
    assert [curve["concept"] for curve in found["curves"]][:2] == ["dog", "cat"]
    monkeypatch.setattr(tiny, "atlas", atlas)
    assert "calibrated" in run(*SWEEP, "--doses", "1,2").stderr


def test_without_a_choice_the_labels_and_some_features_are_calibrated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steering_calibrate, "DEFAULT_FEATURES", 2)
    found = json.loads(run(*CALIBRATE, "--json").stdout)
    assert [c["concept"] for c in found["curves"] if c["concept"]] == ["cat"]
    assert sum(c["feature"] is not None for c in found["curves"]) == 2


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [
        ((*SWEEP[:2],), "neither of concept and feature", 1),
        ((*SWEEP, "--doses", "1,x"), "no list of doses", 2),
        ((*SWEEP, "--doses", "2,1"), "rising order", 1),
        ((*SWEEP, "--concept", "zzyzx"), "no concept named", 1),
        (("sweep", "b.png", "--concept", "dog"), "b.png", 1),
        ((*CALIBRATE, "--concepts", "zzyzx"), "no concept named", 1),
        ((*CALIBRATE, "--concepts", ","), "no concept or feature", 1),
        ((*CALIBRATE, "--feature", "64"), "outside 0..63", 1),
        ((*CALIBRATE, "--doses", "0,1"), "above 0", 1),
        (("calibrate", "model", "--data", "model"), "no shard matches", 1),
        ((*CALIBRATE, "--success", "1.5"), "--success", 2),
    ],
)
def test_misuse_is_refused_in_words(arguments: tuple[str, ...], word: str, code: int) -> None:
    assert word in run(*arguments, code=code).stderr


def test_features_that_never_fire_are_refused_by_name(
    folder: Path, tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.atlas.__dict__, "dead", tiny.atlas.density > tiny.atlas.density.min())
    dead = int(tiny.atlas.density.argmax())
    refused = run(*CALIBRATE, "--feature", str(dead), code=1).stderr
    assert "never fire" in refused and f"{dead} ({tiny.atlas.names[dead]})" in refused
    assert not (folder / "model" / "features" / DOSES_FILE).exists()
