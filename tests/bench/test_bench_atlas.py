"""The atlas bench compares two ways that find the same, and says so in its lines."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bench import atlas
from bench.atlas import Case, Measured, WordCodes, flatness, line, measure
from sparse_encoder.atlas import TEMPLATES
from tests.forks import FORKS

MIB = 2**20


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_encoder.features.text_words.WORD_BLOCK", 32)
    monkeypatch.setattr(atlas, "SHARD", 48)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """`measure` is for a process of its own and sets their number: later tests have none of it."""
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("what", ["words", "images"])
def test_both_ways_find_the_same_for_every_feature(what: str) -> None:
    ours, plain = (measure(Case(what, 200, 256, is_plain)) for is_plain in (False, True))
    assert (np.sort(ours.index, axis=1) == np.sort(plain.index, axis=1)).all()
    assert ours.seconds > 0 and (ours.index >= 0).any()


def test_codes_of_a_word_are_the_same_in_any_block_and_differ_by_template() -> None:
    encode = WordCodes(64)
    texts = [template.format(word) for word in ("7", "8", "9") for template in TEMPLATES]
    together = encode(texts)
    assert (together[2:4] - encode(texts[2:4])).abs().max() < 1e-5
    assert len(together.unique(dim=0)) == 6


def test_a_line_shows_both_ways_and_their_ratio_or_why_there_is_none() -> None:
    index = np.zeros((4, 2), np.int64)
    ours, plain = Measured(2.0, 10 * MIB, index), Measured(4.0, 40 * MIB, index)
    text = line(Case("words", 1_000, 2_000, False), ours, plain)
    assert "0.50 x time" in text and "0.25 x peak" in text and "100.00 % the same" in text
    assert "1.0 " in text.split("2,000")[1]  # a million pairs a second
    assert line(Case("words", 1, 1, False), ours, "would need 9 MiB").endswith("would need 9 MiB")


def test_flatness_compares_the_fewest_with_the_most_of_one_width() -> None:
    index = np.zeros((1, 1), np.int64)
    done = [
        (Case("words", rows, features, False), Measured(1.0, peak, index))
        for rows, features, peak in ((10, 8, 100), (40, 8, 110), (10, 9, 50))
    ]
    assert list(flatness("words", done)) == ["8 features: 4.0 times the words, 1.10 times the peak"]


def test_a_plain_case_that_does_not_fit_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas, "available", lambda _: 1000)
    found = atlas.outcome(Case("words", 1_000, 1_000, True))
    assert isinstance(found, str) and "MiB" in found


@pytest.mark.slow
def test_the_quick_run_prints_both_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        atlas, "get_context", lambda _: FORKS
    )  # importing torch takes longer than a case
    result = CliRunner().invoke(atlas.main, ["--quick"])
    assert result.exit_code == 0, result.output
    assert result.output.count("x peak") == 4
    assert "times the images" in result.output
