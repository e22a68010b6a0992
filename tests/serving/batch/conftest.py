"""Photographs in every kind of place."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.batch.item import Item
from serving.batch.plan import Plan
from tests.tiny_model import write_tar


@pytest.fixture
def pictures(photo: Any) -> dict[str, bytes]:
    """Three photographs with three contents, by file name."""
    return {f"{i}.png": photo((i, 9, 9)) for i in range(3)}


@pytest.fixture
def album(tmp_path: Path, pictures: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The photographs in the folder `album`, which lies in the working folder."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def plan() -> Plan:
    return Plan("f" * 64)


@pytest.fixture
def all_items() -> Callable[..., list[Item]]:
    """Everything that sources give."""

    def items(*sources: Any, wanted: Callable[[str], bool] = lambda _: True) -> list[Item]:
        return [item for source in sources for item in source.items(wanted)]

    return items


@pytest.fixture
def zipped(album: Path, pictures: dict[str, bytes]) -> Path:
    """The photographs and a text file, as album.zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {**pictures, "notes.txt": b"x"}.items():
            archive.writestr(f"in/{name}", data)
    path = album.parent / "album.zip"
    path.write_bytes(buffer.getvalue())
    return path


@pytest.fixture
def tarred(album: Path, pictures: dict[str, bytes]) -> Path:
    """The photographs and a text file, as album.tar."""
    files = {**pictures, "notes.txt": b"x"}
    return write_tar(album.parent / "album.tar", {f"in/{n}": data for n, data in files.items()})
