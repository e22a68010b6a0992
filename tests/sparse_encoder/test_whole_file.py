"""A file is whole or as it was."""

import os
from pathlib import Path

import pytest

from sparse_encoder.whole_file import replace_file, write_whole


def test_a_write_that_fails_half_way_leaves_the_file_as_it_was_and_nothing_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, b"before")

    def half(aside: Path) -> None:
        aside.write_bytes(b"hal")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        replace_file(path, half)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.txt", b"before")]


@pytest.mark.parametrize("mark", [None, "part"])
def test_it_is_written_under_another_name_first(tmp_path: Path, mark: str | None) -> None:
    seen: list[str] = []

    def write(aside: Path) -> None:
        seen.append(aside.name)
        aside.write_bytes(b"x")

    replace_file(tmp_path / "a.txt", write, mark=mark)
    assert seen == [f".a.txt.{os.getpid() if mark is None else mark}"]
    assert (tmp_path / "a.txt").read_bytes() == b"x"
