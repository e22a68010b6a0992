"""Captions of a captioner with known answers are scored against the right references."""

import json

import pytest
from fake_captioner import FakeCaptioner, fake_request, fake_sample

from sparse_encoder.errors import SparsightError
from vlm.evaluate_captions import evaluate_captions

CAPTIONS = [
    "A dog runs on the wet sand.",
    "Two men play chess in a park.",
    "A red bus stands there.",
]


def test_perfect_captions_get_the_largest_scores_and_scrambled_ones_the_smallest() -> None:
    samples = [fake_sample(i, captions=(text,)) for i, text in enumerate(CAPTIONS)]
    right = {sample.key: sample.captions[0] for sample in samples}
    wrong = dict(zip(right, [*CAPTIONS[1:], CAPTIONS[0]], strict=True))
    best = evaluate_captions(
        FakeCaptioner(samples, right), samples, set_name="tiny", make_request=fake_request
    )
    worst = evaluate_captions(
        FakeCaptioner(samples, wrong), samples, set_name="tiny", make_request=fake_request
    )
    assert best.scores.cider == pytest.approx(10) and best.scores.bleu4 == pytest.approx(1)
    assert worst.scores.cider < 1 and worst.scores.bleu4 < 0.1
    assert best.answers == right


def test_the_report_counts_images_and_captions_cut_off() -> None:
    samples = [fake_sample(i, captions=(text,)) for i, text in enumerate(CAPTIONS)]
    captioner = FakeCaptioner(
        samples,
        {sample.key: sample.captions[0] for sample in samples},
        cut_off=frozenset(CAPTIONS[:1]),
    )
    found = evaluate_captions(captioner, samples, set_name="tiny", make_request=fake_request)
    report = json.loads(json.dumps(found.to_json()))
    assert report["images"] == 3 and report["unfinished"] == 1 and report["set"] == "tiny"
    assert "CIDEr 10.000" in found.table()


def test_images_with_one_key_are_refused() -> None:
    sample = fake_sample(1, captions=("A dog.",))
    with pytest.raises(SparsightError, match="1 distinct keys"):
        evaluate_captions(
            FakeCaptioner([sample], {sample.key: "x"}),
            [sample, sample],
            set_name="tiny",
            make_request=fake_request,
        )
