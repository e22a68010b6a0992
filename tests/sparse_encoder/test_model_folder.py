"""Models by name and by path."""

from pathlib import Path

import pytest

from sparse_encoder import model_folder
from sparse_encoder.errors import SparsightError
from sparse_encoder.model_folder import find_model, shipped_models


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with two models and a folder that is none."""
    for name in ("mini", "large"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text("{}")
    (tmp_path / "models/drafts").mkdir()
    (tmp_path / "sparse_encoder").mkdir()
    monkeypatch.setattr(model_folder, "__file__", str(tmp_path / "sparse_encoder/model_folder.py"))
    return tmp_path


def test_a_checkout_keeps_its_models_in_the_root(home: Path) -> None:
    assert shipped_models() == {n: home / "models" / n for n in ("large", "mini")}
    assert find_model("mini") == home / "models/mini"


def test_a_wheel_keeps_its_models_in_the_package(home: Path) -> None:
    (home / "models").rename(home / "sparse_encoder/models")
    assert find_model("mini") == home / "sparse_encoder/models/mini"


def test_a_path_is_taken_as_it_is(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("mine")
    (folder / "config.json").write_text("{}")
    assert find_model(folder) == find_model(str(folder)) == folder


@pytest.mark.parametrize("model", ["minni", "/nowhere/mini", "drafts", ""])
def test_an_unknown_model_is_refused_and_the_known_are_named(home: Path, model: str) -> None:
    with pytest.raises(SparsightError, match="one of: large, mini") as caught:
        find_model(model)
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_a_folder_without_a_config_is_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match=r"models/drafts holds no config\.json"):
        find_model(tmp_path / "models/drafts")
