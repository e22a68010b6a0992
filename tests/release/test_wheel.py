"""The built wheel in an environment of its own, outside the checkout: `make test-wheel`."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "demo" / "examples" / "chelsea.jpg"
pytestmark = [pytest.mark.wheel, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel() -> Path:
    found = sorted((ROOT / "dist").glob("sparsight-*.whl"))
    assert len(found) == 1, f"expected one wheel in dist/, as `make wheel` leaves it; found {found}"
    return found[0]


@pytest.fixture(scope="module")
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a photograph and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copyfile(PHOTO, folder / "photo.jpg")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a user who has neither the checkout on a path nor a model in a cache."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SPARSIGHT", "VIRT"))
    }
    return {**kept, "SPARSIGHT_CACHE": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def installed(
    wheel: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of programs of a fresh environment into which the wheel was installed."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q"]
    subprocess.run(
        [*pip, "-c", str(ROOT / "constraints.txt"), str(wheel)],
        check=True,
        cwd=venv,
        env=environment,
        timeout=1500,
    )
    return venv / "bin"


@pytest.fixture(scope="module")
def answer(installed: Path, empty_folder: Path, environment: dict[str, str]) -> Path:
    """What `caption --json` says of the steered photograph."""
    words = ["caption", "photo.jpg", "--steer", "cat=0", "--steer", "dog=1", "--json"]
    said = sparsight(installed, empty_folder, environment, *words)
    assert said.returncode == 0, said.stderr
    path = empty_folder / "answer.json"
    path.write_text(said.stdout)
    return path


def sparsight(
    programs: Path, folder: Path, environment: dict[str, str], *words: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(programs / "sparsight"), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.timeout(1800)
def test_the_steered_caption_is_that_of_the_checkout(answer: Path) -> None:
    said = json.loads(answer.read_text())
    checkout = subprocess.run(
        [sys.executable, "-m", "serving.cli.main", "caption", str(PHOTO), "--json"]
        + ["--steer", "cat=0", "--steer", "dog=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = json.loads(checkout.stdout)
    assert said["caption"] == wanted["caption"]
    assert said["receipt"]["fingerprint"] == wanted["receipt"]["fingerprint"]
    assert said["receipt"]["codes_sha256"] == wanted["receipt"]["codes_sha256"]


def test_the_receipt_is_verified_outside_the_checkout(
    installed: Path, empty_folder: Path, environment: dict[str, str], answer: Path
) -> None:
    said = sparsight(
        installed, empty_folder, environment, "verify", answer.name, "--image", "photo.jpg"
    )
    assert (said.returncode, said.stdout.split()[0]) == (0, "equal"), said.stderr


def test_it_says_the_version_of_its_file(
    installed: Path, wheel: Path, empty_folder: Path, environment: dict[str, str]
) -> None:
    said = sparsight(installed, empty_folder, environment, "--version")
    assert said.stdout.split()[-1] == wheel.name.split("-")[1]


def test_all_code_comes_from_the_wheel_and_only_its_packages(
    installed: Path, empty_folder: Path, environment: dict[str, str]
) -> None:
    code = (
        "import importlib.util as u, json; print(json.dumps({n: s.origin if (s := u.find_spec(n)) "
        "else None for n in ('sparse_encoder', 'vlm', 'serving', 'demo', 'tests', 'bench')}))"
    )
    done = subprocess.run(
        [str(installed / "python"), "-c", code],
        cwd=empty_folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found.pop("tests") is None and found.pop("bench") is None
    assert all(str(installed.parent) in origin for origin in found.values())


def test_every_file_that_git_tracks_in_the_packages_is_in_the_wheel(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "sparse_encoder", "vlm", "serving", "demo", "models"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    wanted = {f"sparse_encoder/{name}" if name.startswith("models/") else name for name in tracked}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - names == set()
    assert {name for name in names - wanted if ".dist-info/" not in name} == set()
