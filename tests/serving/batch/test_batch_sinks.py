"""Parquet, shards and sidecars made from results."""

import errno
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from serving.batch.journal import Journal
from serving.batch.plan import PLAIN, Plan, Steering
from serving.batch.result import Result
from serving.batch.run import caption_all
from serving.batch.sinks.parquet import ParquetParts
from serving.batch.sinks.shards import WebdatasetShards
from serving.batch.sinks.sidecar import Sidecars, as_text, as_xmp
from serving.batch.sources import open_sources
from sparse_encoder import whole_file
from sparse_encoder.errors import SparsightError
from vlm.edits import Edit

PLAN = Plan("f" * 64, ("what?",))


def done(n: int, path: str | None = None) -> Result:
    digest = f"{n:064x}"
    outputs = {"caption": f"caption {n}", "receipt": {"images": [{"sha256": digest}]}}
    return Result(f"{n}.png" if path is None else path, outputs, sha256=digest)


def feed(sink: Any, journal: Journal, results: Iterable[Result], data: bytes | None = None) -> None:
    for result in results:
        assert sink.before(result, data) is None
        journal.append(result)
        sink.after(result)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [
        row
        for part in sorted(folder.glob("part-*.parquet"))
        for row in pyarrow.parquet.read_table(part).to_pylist()
    ]


def test_parquet_parts_hold_every_result_once_whenever_a_run_ends(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    n = 0
    for step in (1, 2, 3, 4, 1, 5):  # parts of three, left short, full and overfull
        with Journal(tmp_path / "o.jsonl", PLAN) as journal:
            sink = ParquetParts(folder, PLAN, journal, rows=3)
            feed(sink, journal, map(done, range(n, n + step)))
            n += step
            if step != 2:  # as if killed: what is not in a part yet is only in the journal
                sink.close()
                assert [row["path"] for row in rows(folder)] == [f"{i}.png" for i in range(n)]
    sizes = [len(pyarrow.parquet.read_table(part)) for part in sorted(folder.iterdir())]
    assert sizes == [3, 3, 3, 3, 3, 1]
    row = rows(folder)[5]
    assert (row["caption"], row["sha256"]) == ("caption 5", f"{5:064x}")
    assert json.loads(row["receipt"]) == done(5).outputs["receipt"]


def test_parquet_asked_for_later_is_made_from_the_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        for n in range(5):
            journal.append(done(n))
        ParquetParts(tmp_path / "p", PLAN, journal, rows=2).close()
    assert [row["path"] for row in rows(tmp_path / "p")] == [f"{n}.png" for n in range(5)]


def test_parquet_keeps_all_outputs(tmp_path: Path, album: Path, pipeline: Any) -> None:
    steerings = (PLAIN, Steering("no dog", (Edit("ablate", concept="dog"),)))
    for embedding in ("dense", "sparse"):
        plan = Plan("f" * 64, ("a?", "b?"), steerings, codes=True, embedding=embedding)  # type: ignore[arg-type]
        folder = tmp_path / embedding
        with Journal(tmp_path / f"{embedding}.jsonl", plan) as journal:
            sink = ParquetParts(folder, plan, journal)
            list(
                caption_all(open_sources(["album"]), plan, pipeline, journal=journal, sinks=[sink])
            )
            sink.close()
            good = list(journal.good())
        for row, result in zip(rows(folder), good, strict=True):
            assert row["path"] == result.path
            assert [each["caption"] for each in row["captions"]] == result.captions
            assert row["code"] == result.outputs["code"]
        vector = row["embedding"]
        values = vector if embedding == "dense" else vector["values"]
        assert sum(value**2 for value in values) == pytest.approx(1)


def test_a_parquet_folder_of_another_plan_or_journal_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        sink = ParquetParts(tmp_path / "p", PLAN, journal, rows=2)
        feed(sink, journal, map(done, range(5)))
        sink.close()
    other = Plan("f" * 64, ("who?",))
    for plan, word in ((other, "another recipe"), (PLAN, "5 rows, --out only 0")):
        with Journal(tmp_path / "new.jsonl", plan, overwrite=True) as journal:
            refused = pytest.raises(SparsightError, match=word)
            with refused:
                ParquetParts(tmp_path / "p", plan, journal, rows=2)
    (tmp_path / "p" / "part-00000.parquet").write_bytes(b"PAR1")
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        with pytest.raises(SparsightError, match="cannot be read"):
            ParquetParts(tmp_path / "p", PLAN, journal, rows=2)
        ParquetParts(tmp_path / "p", PLAN, journal, rows=2, overwrite=True).close()
    assert len(rows(tmp_path / "p")) == 5
    (tmp_path / "file").write_bytes(b"")
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        for make in (ParquetParts, lambda folder, _plan, log: WebdatasetShards(folder, log)):
            with pytest.raises(SparsightError, match="cannot be used for"):
                make(tmp_path / "file", PLAN, journal)


def samples(folder: Path) -> list[dict[str, Any]]:
    shards = sorted(map(str, folder.glob("shard-*.tar")))
    return list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))


def members(folder: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted(folder.iterdir()):
        with tarfile.open(path, "r:") as shard:
            found[path.name] = shard.getnames()
    return found


def test_shards_are_read_by_webdataset(tmp_path: Path, photo: Any) -> None:
    data = photo("red", "JPEG")
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        sink = WebdatasetShards(tmp_path / "w", journal, samples=2)
        feed(sink, journal, map(done, range(3)), data)
        sink.close()
    found = samples(tmp_path / "w")
    assert [sample["__key__"] for sample in found] == [f"{n:08d}" for n in range(3)]
    assert all(sample["jpg"] == data for sample in found)
    assert [sample["txt"] for sample in found] == [f"caption {n}\n".encode() for n in range(3)]
    assert json.loads(found[2]["json"]) == done(2).to_json()
    assert list(members(tmp_path / "w")) == ["shard-00000.tar", "shard-00001.tar"]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_shards_cut_at_any_block_after_a_kill_go_on_as_if_unbroken(
    tmp_path: Path, photo: Any, n: int
) -> None:
    """Sample n was written in part or whole, its line was not."""
    data = photo("red")

    def write(name: str, results: Iterable[Result], *, then: Result | None, keep: int) -> int:
        with Journal(tmp_path / f"{name}.jsonl", PLAN) as journal:
            sink = WebdatasetShards(tmp_path / name, journal, samples=2)
            feed(sink, journal, results, data)
            size = 0
            if then is None:
                sink.close()
            else:
                path = sink._path(journal.n_done // 2)
                before = path.stat().st_size if path.exists() else 0
                sink.before(then, data)
                size = path.stat().st_size - before
                with path.open("r+b") as file:
                    file.truncate(before + min(keep, size))
                sink._file.close()  # type: ignore[union-attr]
        return size

    write("whole", map(done, range(6)), then=None, keep=0)
    size = write("probe", map(done, range(n)), then=done(n), keep=10**9)
    for keep in {0, 100, 512, 700, 1024, size - 1, size}:
        name = f"cut{keep}"
        write(name, map(done, range(n)), then=done(n), keep=keep)
        write(name, map(done, range(n, 6)), then=None, keep=0)
        for path in sorted((tmp_path / "whole").iterdir()):
            assert (tmp_path / name / path.name).read_bytes() == path.read_bytes(), (keep, path)
        assert len(list((tmp_path / name).iterdir())) == 3


def test_shards_of_somebody_else_are_refused_and_left_alone(tmp_path: Path, photo: Any) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    content = b"a tar of somebody else" * 100
    (folder / "shard-00000.tar").write_bytes(content)
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        with pytest.raises(SparsightError, match="does not go with --out"):
            WebdatasetShards(folder, journal)
        journal.append(done(0))
        with pytest.raises(SparsightError, match="has 0 of 1 samples"):
            WebdatasetShards(folder, journal)
        with pytest.raises(SparsightError, match="is not there"):
            WebdatasetShards(tmp_path / "new", journal)
    assert (folder / "shard-00000.tar").read_bytes() == content


def test_sidecars_lie_beside_their_photograph(album: Path) -> None:
    result = done(0, "album/0.png")
    for kind, name in (("txt", "0.txt"), ("xmp", "0.png.xmp")):
        sink = Sidecars(kind)  # type: ignore[arg-type]
        assert sink.refuses("album/0.png") is None
        assert sink.before(result, None) is None
        assert sink.before(result, None) is None  # a killed run does it again
        assert "caption 0" in (album / name).read_text(encoding="utf-8")
    assert sorted(path.name for path in album.iterdir()) == [
        "0.png", "0.png.xmp", "0.txt", "1.png", "2.png",
    ]  # fmt: skip


def test_somebodys_sidecar_is_left_alone_unless_forced(album: Path) -> None:
    (album / "0.txt").write_text("my notes")
    result = done(0, "album/0.png")
    assert "holds something else" in str(Sidecars("txt").before(result, None))
    assert (album / "0.txt").read_text() == "my notes"
    assert Sidecars("txt", overwrite=True).before(result, None) is None
    assert (album / "0.txt").read_text() == "caption 0\n"


@pytest.mark.parametrize("name", ["-", "https://a/b.png", "a.zip/b.png", "album/gone.png"])
def test_what_is_no_file_has_no_sidecar(album: Path, name: str) -> None:
    assert "no file in a folder" in str(Sidecars("txt").refuses(name))


def test_a_read_only_folder_is_told_before_captioning(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "album cannot be written" in str(Sidecars("xmp").refuses("album/0.png"))


def test_a_sidecar_that_cannot_be_written_is_the_failure_of_its_photograph(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(whole_file.os, "replace", read_only)
    assert "Read-only file system" in str(Sidecars("txt").before(done(0, "album/0.png"), None))
    assert sorted(path.name for path in album.iterdir()) == ["0.png", "1.png", "2.png"]


def test_a_full_disk_stops_the_run_and_leaves_no_half_file(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch, photo: Any
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_file.os, "replace", full)
    with pytest.raises(SparsightError, match="make room"):
        Sidecars("txt").before(done(0, "album/0.png"), None)
    with Journal(tmp_path / "o.jsonl", PLAN) as journal:
        sink = ParquetParts(tmp_path / "p", PLAN, journal, rows=1)
        with pytest.raises(SparsightError, match="make room"):
            feed(sink, journal, [done(0)])
    assert sorted(path.name for path in album.iterdir()) == ["0.png", "1.png", "2.png"]
    assert list((tmp_path / "p").iterdir()) == []


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_every_caption_gives_valid_xmp_with_its_words(captions: list[str]) -> None:
    packet = as_xmp(captions)
    begin, rest = packet.split("\n", 1)
    assert begin == '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    tree = ElementTree.fromstring(rest.rsplit("\n", 2)[0].encode("utf-8", "replace"))
    names = {
        "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "dc": "http://purl.org/dc/elements/1.1/",
    }
    (item,) = tree.findall("rdf:RDF/rdf:Description/dc:description/rdf:Alt/rdf:li", names)
    assert item.get("{http://www.w3.org/XML/1998/namespace}lang") == "x-default"
    if all(ord(" ") <= ord(letter) < 0xD800 for caption in captions for letter in caption):
        assert (item.text or "").split() == " ".join(captions).split()
    assert as_text(captions).count("\n") == len(captions)
