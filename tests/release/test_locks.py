"""The hash-locked requirements fit pyproject.toml and constraints.txt; `make locks` remakes them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))


def locked(path: Path) -> dict[str, tuple[str, int]]:
    """Version, and number of sha256s, of each package."""
    found = {}
    for entry in re.split(r"\n(?=\w)", "\n" + path.read_text())[1:]:
        wanted = Requirement(entry.partition("\\")[0].strip())
        (only,) = wanted.specifier
        assert only.operator == "==", entry
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)
        found[canonicalize_name(wanted.name)] = (only.version, len(hashes))
    return found


def wanted(lines: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_has_hashes(path: Path) -> None:
    found = locked(path)
    assert len(found) > 10
    assert [name for name, (_, hashes) in found.items() if not hashes] == []


def test_the_runtime_lock_fits_what_the_project_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = locked(ROOT / "locks" / "runtime.txt")
    wrong = [
        str(one)
        for one in wanted(project["dependencies"])
        if not one.specifier.contains(found.get(canonicalize_name(one.name), ("0", 0))[0])
    ]
    assert wrong == [], "run `make locks`"


def test_the_runtime_lock_has_the_tested_versions() -> None:
    tested = {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in wanted((ROOT / "constraints.txt").read_text().splitlines())
    }
    found = locked(ROOT / "locks" / "runtime.txt")
    assert {n: v for n, (v, _) in found.items() if tested.get(n, v) != v} == {}, "run `make locks`"


@pytest.mark.parametrize("name", ["docs", "release"])
def test_a_lock_of_tools_has_what_is_asked_for(name: str) -> None:
    found = locked(ROOT / "locks" / f"{name}.txt")
    for one in wanted((ROOT / "locks" / f"{name}.in").read_text().splitlines()):
        assert one.specifier.contains(found[canonicalize_name(one.name)][0]), "run `make locks`"
