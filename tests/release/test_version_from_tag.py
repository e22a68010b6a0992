"""The version is the git tag's, and there is one where no tag and no git is: `make test-wheel`."""

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("SPARSIGHT_RELEASE_PYTHON", str(ROOT / ".venv-release" / "bin" / "python"))
pytestmark = [pytest.mark.wheel, pytest.mark.slow]


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def version(folder: Path) -> str:
    done = subprocess.run(
        [PYTHON, "-m", "hatchling", "version"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Our pyproject.toml over next to nothing, in a repository of one commit."""
    folder = tmp_path / "project"
    for package in ("sparse_encoder", "vlm", "serving", "demo", "models"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copyfile(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def test_a_tag_is_the_version_and_a_commit_after_it_comes_before_the_next(project: Path) -> None:
    git(project, "tag", "v1.2.3")
    assert version(project) == "1.2.3"
    (project / "vlm" / "more.py").touch()
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "more")
    assert re.fullmatch(r"1\.2\.4\.dev1\+g[0-9a-f]+", version(project))


def test_without_a_tag_the_version_counts_commits(project: Path) -> None:
    assert re.fullmatch(r"0\.1(\.0)?\.dev1\+g[0-9a-f]+", version(project))


def test_without_git_there_is_a_version(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(project / ".git")
    assert version(project) == "0.1.0.dev0"
    monkeypatch.setenv("SETUPTOOLS_SCM_PRETEND_VERSION", "1.2.3")  # as the container's build does
    assert version(project) == "1.2.3"


def test_an_sdist_has_its_version_written_down(project: Path, tmp_path: Path) -> None:
    git(project, "tag", "v1.2.3")
    subprocess.run([PYTHON, "-m", "hatchling", "build", "-t", "sdist"], cwd=project, check=True)
    with tarfile.open(project / "dist" / "sparsight-1.2.3.tar.gz") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert version(tmp_path / "unpacked" / "sparsight-1.2.3") == "1.2.3"
