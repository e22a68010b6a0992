"""A word list is read once for a model, goes on where it was stopped, and is not held whole."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparse_encoder import word_codes as module
from sparse_encoder.contrastive import unit
from sparse_encoder.word_codes import WordCodes, word_codes

WORDS = [f"w{i}" for i in range(10)]
TABLE = (torch.randn(10, 20, generator=torch.Generator().manual_seed(0)) - 0.5).relu()


class Encoder:
    def __init__(self, breaks_at: int = -1) -> None:
        self.n_texts, self.breaks_at = 0, breaks_at

    def __call__(self, texts: list[str]) -> Tensor:
        if 0 <= self.breaks_at <= self.n_texts:
            raise KeyboardInterrupt
        self.n_texts += len(texts)
        return TABLE[[int("".join(filter(str.isdigit, text))) for text in texts]]


@pytest.fixture(autouse=True)
def small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "BLOCK", 4)


def read(encode: Encoder, words: list[str] = WORDS, fingerprint: str = "f" * 64) -> WordCodes:
    told: list[float | None] = []
    steps = word_codes(words, encode, 20, fingerprint, lambda _, share: told.append(share))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: WordCodes = end.value
            return found


def test_blocks_have_the_unit_codes_of_the_words_in_order() -> None:
    found = read(Encoder())
    rows = [(first, codes.dense()) for first, codes in found.blocks()]
    assert [first for first, _ in rows] == [0, 4, 8]
    assert torch.allclose(torch.cat([row for _, row in rows]), unit(TABLE), atol=1e-6)


def test_a_list_is_read_once_for_a_model() -> None:
    read(Encoder())
    again, other = Encoder(), Encoder()
    list(read(again).blocks())
    assert again.n_texts == 0
    read(other, fingerprint="e" * 64)
    assert other.n_texts == 20  # another model's codes are others
    changed = Encoder()
    read(changed, words=[*WORDS[:9], "w1"])
    assert changed.n_texts == 20


def test_a_reading_that_was_stopped_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        read(Encoder(breaks_at=16))
    rest = Encoder()
    read(rest)
    assert rest.n_texts == 4


def test_a_damaged_block_is_made_again(tmp_path: Path) -> None:
    read(Encoder())
    for path in tmp_path.rglob("words-4.npz"):
        path.write_bytes(path.read_bytes()[:50])
    again = Encoder()
    rows = torch.cat([codes.dense() for _, codes in read(again).blocks()])
    assert again.n_texts == 8 and torch.allclose(rows, unit(TABLE), atol=1e-6)


def test_a_list_of_one_block_leaves_nothing_on_disk(tmp_path: Path) -> None:
    found = read(Encoder(), words=WORDS[:4])
    assert [codes.n_rows for _, codes in found.blocks()] == [4]
    assert list(tmp_path.iterdir()) == []
