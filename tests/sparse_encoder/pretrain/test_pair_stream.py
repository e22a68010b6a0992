import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.pair_stream import Pair, PairStream
from tests.tiny_model import png, write_tar


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    return [
        str(
            write_tar(
                tmp_path / f"{s}.tar",
                {f"{s}{i}.{x}": d for i in range(6) for x, d in (("png", png(i)), ("txt", b"dog"))},
            )
        )
        for s in "abc"
    ]


def key_and_text(pair: Pair) -> tuple[str, str]:
    return pair.key, pair.text


def read(shards: Sequence[str], n: int = 20, **settings: int) -> list[tuple[str, str]]:
    stream = PairStream(shards, key_and_text, **{"seed": 0, "buffer": 8, **settings})  # type: ignore[arg-type]
    return list(islice(stream, n))


def test_a_stream_is_endless_and_its_order_is_fixed_by_its_seed(shards: list[str]) -> None:
    assert len(read(shards, 50)) == 50
    assert read(shards) == read(shards)


@pytest.mark.parametrize("other", [{"seed": 1}, {"start": 100}, {"rank": 1}])
def test_another_seed_start_or_rank_is_another_order(
    shards: list[str], other: dict[str, int]
) -> None:
    assert read(shards) != read(shards, **other)


# PyTorch advises against more workers than cores, of which a test machine may have one.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_read_different_orders_and_their_skips_are_counted(
    shards: list[str], tmp_path: Path
) -> None:
    broken = write_tar(tmp_path / "broken.tar", {"x.png": b"no picture", "x.txt": b"dog"})
    stream = PairStream([*shards, str(broken)], key_and_text, seed=0, buffer=8)
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    pairs = list(islice(loader, 60))
    del loader
    assert pairs[0::2] != pairs[1::2]
    assert stream.skipped.totals()["image"] > 0


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"x.png": b"", "x.txt": b"dog"}, "image"),
        ({"x.png": png(0)[:60], "x.txt": b"dog"}, "image"),
        ({"x.txt": b"dog"}, "image"),
        ({"x.png": png(0)}, "text"),
        ({"x.png": png(0), "x.txt": b" \n"}, "text"),
        ({"x.png": png(0), "x.txt": b"caf\xe9"}, "text"),
        ({"x.png": png(0), "x.json": b"{"}, "text"),
        ({"x.png": png(0), "x.json": b'{"captions": []}'}, "text"),
        ({"x.png": png(0), "x.json": b'{"captions": [7]}'}, "text"),
        ({"x.png": png(0), "x.json": b"[]"}, "text"),
    ],
)
def test_what_is_broken_is_left_out_and_counted(
    shards: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    files: dict[str, bytes],
    kind: str,
) -> None:
    bad = write_tar(tmp_path / "bad.tar", files)
    stream = PairStream([shards[0], str(bad)], key_and_text, seed=0, buffer=4)
    with caplog.at_level(logging.WARNING):
        keys = {key for key, _ in islice(stream, 40)}
    assert keys == {f"a{i}" for i in range(6)}
    totals = stream.skipped.totals()
    assert totals.pop(kind) > 0
    assert set(totals.values()) == {0}
    assert "left out" in caplog.text


@pytest.mark.parametrize("how", ["no tar", "cut off", "missing"])
def test_a_broken_shard_is_left_out_and_the_rest_goes_on(
    shards: list[str], tmp_path: Path, how: str
) -> None:
    bad = tmp_path / "bad.tar"
    whole = Path(shards[1]).read_bytes()
    if how != "missing":
        bad.write_bytes(b"this is no tar file" * 100 if how == "no tar" else whole[:2500])
    stream = PairStream([shards[0], str(bad)], key_and_text, seed=0, buffer=4)
    keys = {key for key, _ in islice(stream, 40)}
    assert {f"a{i}" for i in range(6)} <= keys
    assert stream.skipped.totals()["shard"] > 0


def test_shards_without_a_readable_pair_end_with_a_reason(tmp_path: Path) -> None:
    bad = write_tar(tmp_path / "bad.tar", {"x.png": b"no", "x.txt": b"dog"})
    with pytest.raises(SparsightError, match="no readable pair"):
        read([str(bad)], 1)


def test_no_shards_are_refused() -> None:
    with pytest.raises(SparsightError, match="no shards"):
        read([])


def test_labels_are_put_into_templates_and_captions_are_drawn(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar",
        {
            "x.png": png(0),
            "x.json": b'{"label": "emu"}',
            "y.png": png(1),
            "y.json": b'{"captions": ["one", "two"]}',
        },
    )
    pairs = read([str(path)], 60)
    assert all("emu" in text for key, text in pairs if key == "x")
    assert len({text for key, text in pairs if key == "x"}) > 1
    assert {text for key, text in pairs if key == "y"} == {"one", "two"}
