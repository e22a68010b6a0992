"""A run killed at random times ends with the files of an unbroken one."""

import json
import random
import time
from pathlib import Path

import pytest

from tests.forks import FORKS
from tests.serving.batch.killed_run import caption_album
from tests.tiny_model import png

# Far more photographs than the runs together get to before they are killed.
N_PHOTOS, N_KILLS = 300, 20


def make_album(folder: Path) -> None:
    """Every tenth photograph is bad, every seventh has the bytes of another."""
    (folder / "album").mkdir(parents=True)
    for n in range(N_PHOTOS):
        data = b"bad" if n % 10 == 9 else png(n // 2 if n % 7 == 3 else n)
        (folder / "album" / f"{n:03d}.png").write_bytes(data)


def kill_on_the_way(folder: Path, out: Path, chance: random.Random) -> bool:
    """One run that is killed some lines further; False where it came to its end before."""
    journal = out / "o.jsonl"
    process = FORKS.Process(target=caption_album, args=(str(folder), str(out), 0))
    before = journal.stat().st_size if journal.exists() else 0
    grown = chance.randint(1, 2500)  # bytes; a line has about 700
    process.start()
    while process.is_alive():
        if journal.exists() and journal.stat().st_size >= before + grown:
            time.sleep(chance.random() * 0.02)
            break
        time.sleep(0.001)
    killed = process.is_alive()
    process.kill()
    process.join()
    return killed


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_the_files_of_an_unbroken_run(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        make_album(tmp_path / name)
    outs = {name: tmp_path / f"{name}-out" for name in ("whole", "killed")}
    for out in outs.values():
        out.mkdir()
    chance = random.Random(13)
    n_killed = sum(
        kill_on_the_way(tmp_path / "killed", outs["killed"], chance) for _ in range(N_KILLS)
    )
    assert n_killed == N_KILLS
    for name, workers in (("whole", 1), ("killed", 0)):
        process = FORKS.Process(
            target=caption_album, args=(str(tmp_path / name), str(outs[name]), workers)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
    lines = [json.loads(line) for line in (outs["killed"] / "o.jsonl").read_text().splitlines()]
    paths = [line["path"] for line in lines]
    assert sorted(paths) == [f"album/{n:03d}.png" for n in range(N_PHOTOS)]
    assert sum("error" in line for line in lines) == N_PHOTOS // 10
    assert sum("duplicate_of" in line for line in lines) > 5
    assert files(outs["killed"]) == files(outs["whole"])
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def files(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, by its place in the folder; the empty lock aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
