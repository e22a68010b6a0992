"""Photographs from files, globs, lists, tables and archives."""

import io
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from serving.batch.item import Item
from serving.batch.reading import read_item
from serving.batch.sources import open_sources
from sparse_encoder.errors import SparsightError

Items = Callable[..., list[Item]]


def table(at: Path, **columns: list[Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), at)
    return at


def names(items: list[Item]) -> list[str]:
    return [item.name for item in items]


def opened(items: list[Item]) -> list[bool]:
    """Which items are photographs that can be read."""
    return [read_item(item).image is not None for item in items]


def test_a_folder_and_a_photograph_keep_the_order_of_the_arguments(
    album: Path, all_items: Items
) -> None:
    sources = open_sources(["album/2.png", "album"])
    assert names(all_items(*sources)) == [f"album/{n}.png" for n in (2, 0, 1, 2)]
    assert [source.count() for source in sources] == [1, 3]


def test_globs_and_shard_patterns_are_expanded_in_order_of_name(
    album: Path, all_items: Items
) -> None:
    assert names(all_items(*open_sources(["album/[12].png"]))) == ["album/1.png", "album/2.png"]
    assert names(all_items(*open_sources(["**/*.png"]))) == [f"album/{n}.png" for n in range(3)]
    assert names(all_items(*open_sources(["album/{1..2}.png"]))) == ["album/1.png", "album/2.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(album: Path, all_items: Items) -> None:
    (album / "[0].png").write_bytes((album / "0.png").read_bytes())
    assert names(all_items(*open_sources(["album/[0].png"]))) == ["album/[0].png"]


def test_a_pattern_without_a_match_is_a_failure_and_not_nothing(all_items: Items) -> None:
    (item,) = all_items(*open_sources(["none/*.png"]))
    assert read_item(item).error == "there is no such file"


def test_a_list_names_photographs_from_its_root_whatever_their_encoding(
    album: Path, all_items: Items
) -> None:
    odd = os.fsencode("album/") + b"caf\xe9.png"  # Latin-1 on a UTF-8 system
    with open(odd, "wb") as file:
        file.write((album / "0.png").read_bytes())
    Path("list.txt").write_bytes(b"\xef\xbb\xbf1.png\r\n\ncaf\xe9.png\ngone.png")
    sources = open_sources([], lists=["list.txt"], root="album")
    items = all_items(*sources)
    assert names(items)[0] == "album/1.png" and len(items) == 3
    assert opened(items) == [True, True, False]
    assert sources[0].count() == 3


def test_a_list_on_standard_input_is_read_line_by_line(
    album: Path, all_items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"album/1.png\nalbum/0.png\n")))
    assert names(all_items(*open_sources([], lists=["-"]))) == ["album/1.png", "album/0.png"]


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
def test_archives_give_their_photographs_in_order(
    ending: str, zipped: Path, tarred: Path, all_items: Items
) -> None:
    if ending == ".tar.gz":
        with tarfile.open("album.tar.gz", "w:gz") as out, tarfile.open(tarred) as archive:
            for member in archive:
                out.addfile(member, archive.extractfile(member))
    items = all_items(*open_sources([f"album{ending}"]))
    assert names(items) == [f"album{ending}/in/{n}.png" for n in range(3)]
    assert opened(items) == [True, True, True]


def test_what_is_not_wanted_is_not_read(zipped: Path, tarred: Path, all_items: Items) -> None:
    sources = open_sources([str(zipped), str(tarred)])
    asked: list[str] = []

    def wanted(name: str) -> bool:
        asked.append(name)
        return name.endswith("1.png")

    assert len(all_items(*sources, wanted=wanted)) == 2
    assert len(asked) == 6


@pytest.mark.parametrize("keep", [0, 100, 0.3, 0.6, 0.8, 0.99])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_cut_archive_gives_what_is_whole_and_says_the_rest(
    kind: str, keep: float, zipped: Path, tarred: Path, all_items: Items
) -> None:
    path = {"zip": zipped, "tar": tarred}[kind]
    whole = path.read_bytes()
    n = int(keep if keep > 1 or keep == 0 else keep * len(whole))
    path.write_bytes(whole[:n])
    items = all_items(*open_sources([str(path)]))
    photos = [item for item in items if item.error is None]
    assert all(opened(photos))
    errors = [item for item in items if item.error is not None]
    # Past the last photograph a tar has nothing to lose but its notes and its end.
    assert errors or (kind == "tar" and len(photos) == 3)
    assert all(item.name == str(path) for item in errors)


def test_a_damaged_member_of_a_zip_costs_itself_alone(zipped: Path, all_items: Items) -> None:
    content = bytearray(zipped.read_bytes())
    content[content.index(b"\x89PNG") + 20] ^= 0xFF
    zipped.write_bytes(content)
    items = all_items(*open_sources([str(zipped)]))
    assert [item.error is None for item in items] == [False, True, True]
    assert "damaged in its archive" in str(items[0].error)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("none.zip", "no such file"),
        ("none.tar", "no such file"),
        ("text.zip", "damaged"),
        ("text.tar", "damaged"),
        ("empty.tar", "no photographs"),
        ("text.parquet", "no readable parquet"),
        ("nosuch://bucket/a.tar", "cannot be opened"),
        ("memory://none/a.tar", "no such file"),
        ("memory://none.png", "no such file"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_failure_in_words(
    tmp_path: Path, all_items: Items, path: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.zip", "text.tar", "text.parquet"):
        Path(name).write_text("no archive " * 100)
    tarfile.open("empty.tar", "w").close()
    (item,) = all_items(*open_sources([path]))
    assert item.name.startswith(path.replace("memory://none.png", "memory://"))
    assert word in str(read_item(item).error)


def test_a_csv_gives_the_paths_of_its_column(album: Path, all_items: Items) -> None:
    Path("t.csv").write_text('id,image\n1,"0.png"\n2,\n3,gone.png\n', encoding="utf-8")
    Path("t.tsv").write_text("where\tid\n0.png\t1\n", encoding="utf-8")
    items = all_items(*open_sources(["t.csv"], root="album"))
    assert names(items) == ["album/0.png", "t.csv#3", "album/gone.png"]
    assert opened(items) == [True, False, False]
    assert names(all_items(*open_sources(["t.tsv"], column="where"))) == ["0.png"]


def test_a_parquet_gives_bytes_paths_and_hugging_face_images(
    album: Path, pictures: dict[str, bytes], all_items: Items
) -> None:
    data = list(pictures.values())
    both = [{"bytes": data[0], "path": "x.png"}, {"bytes": None, "path": "1.png"}, None]
    table(Path("t.parquet"), raw=[*data[:2], b""], path=["0.png", None, "2.png"], both=both)
    raw = all_items(*open_sources(["t.parquet"], column="raw"))
    assert names(raw) == ["t.parquet#0", "t.parquet#1", "t.parquet#2"]
    assert opened(raw) == [True, True, False]
    paths = all_items(*open_sources(["t.parquet"], root="album"))
    assert names(paths) == ["album/0.png", "t.parquet#1", "album/2.png"]
    assert opened(paths) == [True, False, True]
    images = all_items(*open_sources(["t.parquet"], column="both", root="album"))
    assert opened(images) == [True, True, False]
    assert open_sources(["t.parquet"])[0].count() == 3


@pytest.mark.parametrize(
    ("column", "words"),
    [("photo", ["no column 'photo'", "it has a, b"]), (None, ["--column", "it has a, b"])],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_without_the_column_is_refused_and_lists_those_it_has(
    tmp_path: Path, all_items: Items, kind: str, column: str | None, words: list[str]
) -> None:
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        path.write_text("a,b\n1,2\n", encoding="utf-8")
    else:
        table(path, a=["1"], b=["2"])
    (source,) = open_sources([str(path)], column=column)
    for act in (source.count, lambda: all_items(source)):
        with pytest.raises(SparsightError) as caught:
            act()
        assert caught.value.param == "column"
        assert all(word in caught.value.message for word in words)


def test_two_usual_columns_are_not_guessed_between(tmp_path: Path, all_items: Items) -> None:
    path = table(tmp_path / "t.parquet", url=["u"], image=["i"])
    with pytest.raises(SparsightError, match="--column"):
        all_items(*open_sources([str(path)]))


def test_a_missing_list_table_or_file_system_is_refused(tmp_path: Path) -> None:
    for source in (
        *open_sources([], lists=[str(tmp_path / "none")]),
        *open_sources([str(tmp_path / "none.csv"), str(tmp_path / "none.parquet")]),
        *open_sources(["nonesuch://bucket"]),
    ):
        with pytest.raises(SparsightError, match="none"):
            source.count()


def test_folders_globs_and_archives_of_other_file_systems_are_read(
    album: Path, tarred: Path, pictures: dict[str, bytes], all_items: Items
) -> None:
    memory = fsspec.filesystem("memory")
    for name, data in pictures.items():
        memory.pipe(f"/bucket/deep/{name}", data)
    memory.pipe("/bucket/notes.txt", b"x")
    memory.pipe("/bucket/s.tar", tarred.read_bytes())
    found = all_items(*open_sources(["memory://bucket"]))
    assert names(found) == [f"memory:///bucket/deep/{n}.png" for n in range(3)]
    assert opened(found) == [True, True, True]
    assert len(all_items(*open_sources(["memory://bucket/deep/[01].png"]))) == 2
    assert len(all_items(*open_sources(["memory://bucket/deep/1.png"]))) == 1
    assert opened(all_items(*open_sources(["memory://bucket/s.tar"]))) == [True, True, True]


def test_globs_of_archives_and_lists_and_tables_of_other_file_systems_are_read(
    tarred: Path, pictures: dict[str, bytes], all_items: Items
) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a", "b"):
        memory.pipe(f"/shards/{name}.tar", tarred.read_bytes())
    memory.pipe("/shards/0.png", next(iter(pictures.values())))
    addresses = b"memory://shards/0.png\nmemory://shards/none.png\n"
    memory.pipe("/shards/names.txt", addresses)
    memory.pipe("/shards/names.csv", b"path\n" + addresses)
    assert opened(all_items(*open_sources(["memory://shards/*.tar"]))) == [True] * 6
    for source in (
        *open_sources([], lists=["memory://shards/names.txt"]),
        *open_sources(["memory://shards/n*.csv"]),
    ):
        assert source.count() == 2
        assert opened(all_items(source)) == [True, False]
    [nothing] = all_items(*open_sources(["memory://shards/*.zip"]))
    assert nothing.error is not None and "no such file" in nothing.error
