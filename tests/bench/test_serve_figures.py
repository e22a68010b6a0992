"""The server's benchmark: its arithmetic, the edits and photographs it sends, the bars it prints."""

import json
import math
import os
import subprocess
import sys
import time

import pytest

from bench.serve.bars import Bar
from bench.serve.figures import Figures, Ratio, percentile
from bench.serve.load import Answered, Job, Round, due_times
from bench.serve.photographs import read_photographs
from bench.serve.process_cpu import cpu_seconds
from bench.serve.traffic import distinct_edit, text_of
from tests.tiny_model import tiny_pipeline
from vlm.template import end_of_turn


def test_time_of_children_counts_and_of_others_does_not() -> None:
    code = "import time\nwhile time.process_time() < 0.3: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 60
        while cpu_seconds([child.pid]) < 0.2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert cpu_seconds([os.getpid()]) >= cpu_seconds([child.pid]) >= 0.2
        child.communicate(b"\n")
    assert cpu_seconds([child.pid]) == 0


def test_arrivals_are_poissons() -> None:
    times = due_times(4000, 10.0, seed=1)
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    mean = sum(gaps) / len(gaps)
    assert times[0] == 0 and mean == pytest.approx(0.1, rel=0.1)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert spread == pytest.approx(mean, rel=0.1)  # exponential: as large as the mean
    assert due_times(5, 10.0, 1) == times[:5] != due_times(5, 10.0, 2)
    with pytest.raises(ValueError, match="one of them"):
        Job("http://h", [], rate=1, at_once=1)


def test_figures_are_those_of_a_hand_computed_case() -> None:
    good = [Answered(200, 0.1 * i, 0.2 * i, [0.01, 0.03], 40, 5) for i in (1, 2, 3)]
    lost = Answered(503, 0.0, 9.0, [], 0, 0)
    rounds = [Round([*good[:2], lost], 2.0, 1.0, 0.5), Round(good[2:], 3.0, 1.5, 0.5)]
    figures = Figures.of(rounds)
    assert (figures.n_requests, figures.n_failed, figures.n_prompt) == (4, 1, 40)
    assert (figures.requests_s, figures.tokens_s) == (3 / 5, 15 / 5)
    assert figures.first_s == pytest.approx((0.2, 0.29, 0.298))
    assert figures.between_s[0] == pytest.approx(0.02)
    assert figures.cpu_share == pytest.approx(2.5 / 5 / (os.cpu_count() or 1))
    assert figures.cpu_s_per_token == pytest.approx(2.5 / 15)
    assert math.isnan(percentile([], 0.5))


def test_a_ratio_is_of_pairs_and_its_interval_holds_it() -> None:
    even = Ratio.of([2.0, 8.0, 4.0], [1.0, 4.0, 2.0])
    assert (even.value, even.low, even.high) == pytest.approx((2.0, 2.0, 2.0))
    odd = Ratio.of([1.0, 4.0], [1.0, 1.0])
    assert odd.value == pytest.approx(2.0) and odd.low < 2.0 < odd.high


@pytest.mark.parametrize(
    ("bar", "words"),
    [
        (Bar("a", 0.99, "at least", 0.995, 0.991, 0.999, "x"), ["0.99x", "0.995x", ", met"]),
        (Bar("a", 0.99, "at least", 0.98, 0.97, 0.985), [", not met"]),
        (Bar("a", 0.4, "at most", 0.3, 0.2, 0.5), [", met, but the interval reaches"]),
        (Bar("a", 0.4, "at most", 0.5, 0.3, 0.6), [", not met, but the interval reaches"]),
        (Bar.of_value("a", "at most", 1.0, 0.25, "ms", "median"), ["1 ms", "0.25 ms, met [median]"]),
    ],
)  # fmt: skip
def test_a_bar_says_what_was_asked_measured_and_whether_it_is_met(
    bar: Bar, words: list[str]
) -> None:
    assert all(word in bar.line() for word in words), bar.line()


def test_edits_and_texts_of_all_rounds_are_different() -> None:
    edits = [json.dumps(distinct_edit(i, turn)) for i in range(256) for turn in range(200)]
    assert len(set(edits)) == len(edits)
    assert len({text_of(30, seed) for seed in range(5000)}) == 5000
    assert all(len(text_of(30, seed).split()) == 30 for seed in range(9))


def test_photographs_repeat_when_warm_and_never_when_cold() -> None:
    photographs = read_photographs(None, 9)
    n = len(photographs)
    assert n == 5  # the demo's
    assert photographs.warm(0) == photographs.warm(n) != photographs.warm(1)
    cold = [photographs.cold() for _ in range(40)]
    assert len({*cold, *map(photographs.warm, range(n))}) == 40 + n


def test_the_end_mark_is_the_templates() -> None:
    assert end_of_turn(tiny_pipeline().tokenizer) == 2  # what the traffic here takes for it
