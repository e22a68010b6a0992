"""What a run meets in the wild: each costs itself alone, or stops the run with what is written safe."""

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.batch.item import Item
from serving.batch.journal import Journal
from serving.batch.plan import Plan
from serving.batch.reading import read_bytes, read_item
from serving.batch.result import Result as Outcome
from serving.batch.run import Pace, caption_all
from serving.batch.sources import open_sources
from serving.cli.main import main
from sparse_encoder.errors import SparsightError
from tests.forks import FORKS
from tests.tiny_model import png, tiny_pipeline
from vlm.pipeline import Pipeline

ODD = b"caf\xe9.png"  # Latin-1 in a file system that is UTF-8


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["caption", *arguments])


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> None:
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: pipeline)


def odd_name(album: Path) -> None:
    with open(os.fsencode(album) + b"/" + ODD, "wb") as file:
        file.write(png(7))


def no_entry(album: Path) -> None:
    (album / "locked").mkdir()


def no_column(album: Path) -> None:
    Path("t.csv").write_text("id,name\n1,album/0.png\n")


@pytest.mark.parametrize(
    ("make", "arguments", "n_good", "words"),
    [
        (odd_name, ["album"], 4, []),
        (no_entry, ["album"], 3, ["album/locked: this folder cannot be read: Permission denied"]),
        (no_column, ["t.csv", "--column", "photo"], 0, ["no column 'photo'", "it has id, name"]),
    ],
)
def test_the_rest_goes_on_or_the_run_says_what_to_do(
    album: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    arguments: list[str],
    n_good: int,
    words: list[str],
) -> None:
    make(album)
    scandir, listdir = os.scandir, os.listdir

    def locked(look: Any) -> Any:  # root may look into any folder
        def refuse(path: Any = ".") -> Any:
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", path)
            return look(path)

        return refuse

    monkeypatch.setattr(os, "scandir", locked(scandir))
    monkeypatch.setattr(os, "listdir", locked(listdir))
    result = run(*arguments, "--out", "o.jsonl")
    assert "Traceback" not in result.output and result.exit_code == (1 if words else 0)
    for word in words:
        assert word in result.stderr
    lines = Path("o.jsonl").read_text().splitlines() if n_good else []
    assert sum('"caption"' in line for line in lines) == n_good


def test_a_name_in_another_encoding_comes_back_as_it_was(album: Path) -> None:
    odd_name(album)
    assert run("album", "--out", "o.jsonl").exit_code == 0
    assert "3 done" not in run("album", "--out", "o.jsonl").stderr  # all four are remembered
    with Journal("o.jsonl", Plan("f" * 64)) as journal:
        names = [os.fsencode(result.path) for result in journal.good()]
    assert b"album/" + ODD in names and len(names) == 4


@pytest.mark.parametrize("read", [read_item, read_bytes])
def test_a_file_that_vanished_says_so(album: Path, read: Callable[[Item], Any]) -> None:
    (album / "1.png").unlink()
    assert read(Item("album/1.png")).error == "there is no such file"
    assert "folder" in read(Item("album")).error


@pytest.mark.parametrize("name", ["0.png", "gone.png"])
def test_bytes_and_pixels_of_an_item_have_one_digest(album: Path, name: str) -> None:
    one, other = read_item(Item(f"album/{name}")), read_bytes(Item(f"album/{name}"))
    assert (one.sha256, one.error) == (other.sha256, other.error)


def test_a_second_run_on_one_output_is_refused(album: Path) -> None:
    with Journal("o.jsonl", Plan("f" * 64)):
        result = run("album", "--out", "o.jsonl")
    assert result.exit_code == 1 and "another run writes to o.jsonl" in result.stderr


def test_a_disk_that_fills_up_stops_the_run_with_what_was_written_safe(album: Path) -> None:
    for n in range(20):
        (album / f"{n:02d}.png").write_bytes(png(n))
    here, there = FORKS.Pipe()
    process = FORKS.Process(target=_fill, args=(there, str(album.parent)))
    process.start()
    said = here.recv() if here.poll(120) else "it said nothing"
    process.join()
    here.close()
    there.close()
    assert "results are safe in it; make room" in said
    kept = Path("o.jsonl").read_bytes()
    assert 0 < len(kept) <= 5000 and kept.endswith(b"\n")
    plan = Plan("f" * 64, max_tokens=3)
    with Journal("o.jsonl", plan) as journal:
        n_before = journal.n_done
        rest = list(_captions(journal, plan))
    assert len(rest) == 23 - n_before and all(each.error is None for each in rest)


def _captions(journal: Journal, plan: Plan) -> list[Outcome]:
    found = caption_all(
        open_sources(["album"]), plan, tiny_pipeline(), journal=journal, pace=Pace(2, 0)
    )
    return list(found)


def _fill(to: Any, folder: str) -> None:
    """A process that may write no file beyond 5,000 bytes, as on a disk that is full."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    plan = Plan("f" * 64, max_tokens=3)
    try:
        with Journal("o.jsonl", plan) as journal:
            _captions(journal, plan)
        to.send("it ended well")
    except SparsightError as error:
        to.send(error.message)
