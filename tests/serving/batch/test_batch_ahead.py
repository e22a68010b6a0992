"""Reading in worker processes."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.batch import ahead
from serving.batch.ahead import CRASHED, read_ahead
from serving.batch.item import Item
from tests.forks import FORKS


@pytest.fixture
def many(album: Path) -> list[Item]:
    """Thirty items, every seventh of them bad."""
    return [Item("none.png" if n % 7 == 6 else f"album/{n % 3}.png") for n in range(30)]


def test_workers_give_what_reading_here_gives(many: list[Item]) -> None:
    here = list(read_ahead(many, workers=0, n_ahead=4, keep_data=True))
    there = list(read_ahead(many, workers=1, n_ahead=4, keep_data=True))
    assert [photo.name for photo in there] == [item.name for item in many]
    for one, other in zip(here, there, strict=True):
        assert (one.error, one.data) == (other.error, other.data)
        assert (one.image is None) == (other.image is None)
        if one.image is not None and other.image is not None:
            assert one.image.pixels.tobytes() == other.image.pixels.tobytes()
            assert (one.image.sha256, one.image.size) == (other.image.sha256, other.image.size)


def test_no_more_is_read_ahead_than_allowed(many: list[Item]) -> None:
    taken = 0

    def counted() -> Iterator[Item]:
        nonlocal taken
        for item in many:
            taken += 1
            yield item

    photos = read_ahead(counted(), workers=1, n_ahead=4)
    for n, _ in enumerate(photos, 1):
        assert taken <= n + 4
    assert taken == 30


def test_few_photographs_start_no_process(
    many: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_pool", lambda _: pytest.fail("a process was started"))
    assert len(list(read_ahead(many[:16], workers=2, n_ahead=4))) == 16


def test_a_photograph_that_ends_its_worker_costs_itself_alone(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "N_READ_HERE", 0)
    monkeypatch.setattr(ahead, "read_item", _deadly)
    items = [Item(f"album/{n}.png") for n in (0, 1, 2)] + [Item("album/0.png")]
    photos = list(read_ahead(items, workers=1, n_ahead=4))
    assert [photo.name for photo in photos] == [item.name for item in items]
    assert [photo.error for photo in photos] == [None, CRASHED, None, None]


def _deadly(item: Item, keep_data: bool) -> object:
    from serving.batch.reading import read_item

    if item.name == "album/1.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return read_item(item, keep_data)


@pytest.mark.slow
def test_workers_end_with_a_run_that_was_killed(album: Path) -> None:
    here, there = FORKS.Pipe()
    run = FORKS.Process(target=_hold_workers, args=(there,))
    run.start()
    assert here.poll(120)
    workers = here.recv()
    assert workers and all(map(_is_alive, workers))
    run.kill()
    run.join()
    deadline = time.monotonic() + 60
    while any(map(_is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if _is_alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
    here.close()
    there.close()


def _hold_workers(to: Any) -> None:
    """Reads ahead, says which processes do it, and never ends."""
    items = (Item("album/0.png") for _ in range(10**9))
    for n, _ in enumerate(read_ahead(items, workers=1, n_ahead=4)):
        if n == 20:
            to.send([child.pid for child in multiprocessing.active_children()])
            time.sleep(600)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and nobody has asked how
