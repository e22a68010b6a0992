"""Steering rates of a captioner whose answers are known, and the baselines beside them."""

import json

import numpy as np
import pytest
from fake_captioner import FakeCaptioner, fake_atlas, fake_request, fake_sample

from sparse_encoder.errors import SparsightError
from vlm.corruption import CorruptionRules
from vlm.rate import Rate
from vlm.steering_evaluation.control_features import matched_features
from vlm.steering_evaluation.fixed_pairs import SteeringSettings, evaluate_steering
from vlm.steering_evaluation.pair_table import SteeringEvaluation, TaskResult
from vlm.steering_evaluation.pairs import SteeringPair

PAIR = SteeringPair("dog", "cat")
PLAIN = {
    "image-000": "A dog runs on the grass.",
    "image-001": "Two dogs sit on a sofa.",
    "image-002": "A puppy sleeps on a bed.",
    "image-003": "A brown dog on a beach.",
    "image-004": "A dog beside a cat.",  # says the target already: no replacement, no insertion
    "image-005": "A red bus on a street.",  # no source: insertion only
    "image-006": "A dog looks at a ball.",
}
STEERED = {
    "image-000": "A cat runs on the grass.",  # success
    "image-001": "A cat and a dog on a sofa.",  # target only
    "image-002": "A sofa in a room.",  # source gone only
    "image-003": "cat cat cat cat cat",  # as wanted, but corrupt (repetition)
    "image-004": "A cat beside a cat.",
    "image-005": "A cat on a street.",
    "image-006": "A cat looks at a ball",  # as wanted, but cut off at the token limit
}


def steer(
    captioner: FakeCaptioner | None = None, **settings: object
) -> tuple[SteeringEvaluation, FakeCaptioner]:
    samples = [fake_sample(i) for i in range(len(PLAIN))]
    captioner = captioner or FakeCaptioner(
        samples,
        PLAIN,
        STEERED,
        prompted={"image-000": "A cat.", "image-001": "A cat."},
        cut_off=frozenset({STEERED["image-006"]}),
    )
    evaluation = evaluate_steering(
        captioner,
        samples,
        pairs=[PAIR],
        settings=SteeringSettings(k=2, **settings),  # type: ignore[arg-type]
        make_request=fake_request,
    )
    return evaluation, captioner


def result(**settings: object) -> TaskResult:
    return steer(**settings)[0].results[0]


def test_replacement_counts_only_images_that_say_the_source_and_not_the_target() -> None:
    found = result()
    assert (found.n_images, found.n_eligible) == (7, 5)
    assert {answer.key for answer in found.answers} == {f"image-00{i}" for i in (0, 1, 2, 3, 6)}


def test_replacement_needs_both_criteria_and_a_sound_answer() -> None:
    found = result()
    assert found.success == Rate(1, 5)
    assert found.success_ignoring_corruption == Rate(3, 5)
    assert found.target_appears == Rate(2, 5)
    assert found.source_gone == Rate(2, 5)
    assert found.corrupt == Rate(2, 5)
    assert found.corrupt_by("repetition") == Rate(1, 5)
    assert found.corrupt_by("too_long") == Rate(1, 5)
    assert found.corrupt_by("empty") == Rate(0, 5)


def test_insertion_is_tried_on_all_images_without_the_target() -> None:
    found = result(tasks=("insertion",))
    assert found.n_eligible == 6
    assert found.success == Rate(3, 6)  # images 0, 1 and 5


def test_suppression_is_tried_on_all_images_with_the_source() -> None:
    found = result(tasks=("suppression",))
    assert found.n_eligible == 6
    assert found.success == Rate(3, 6)  # images 0, 2 and 4


def test_unsteered_answers_never_succeed_on_the_eligible_images() -> None:
    evaluation, _ = steer(tasks=("replacement", "insertion", "suppression"))
    for found in evaluation.results:
        assert found.unsteered == Rate(0, found.n_eligible)


def test_five_draws_of_random_features_are_judged_on_the_same_images() -> None:
    evaluation, captioner = steer()
    found = evaluation.results[0]
    assert found.controls == (Rate(0, 5),) * 5
    assert found.selectivity == pytest.approx(0.2)
    by_feature = {r.edits for r in captioner.requests if r.edits and r.edits[0].concept is None}
    assert len(by_feature) == 5
    for edits in by_feature:
        assert [edit.op for edit in edits] == ["ablate", "ablate", "clamp", "clamp"]
        assert [edit.value for edit in edits] == [None, None, 1.0, 1.0]
        features = [edit.feature for edit in edits]
        assert len(set(features)) == 4
        assert not {3, 7, 5, 8} & set(features)


def test_the_prompt_baseline_names_both_concepts_and_steers_nothing() -> None:
    evaluation, captioner = steer()
    assert evaluation.results[0].prompted == Rate(2, 5)
    asked = [request for request in captioner.requests if "ention a cat" in request.prompt]
    assert len(asked) == 5
    assert all("do not mention a dog" in request.prompt for request in asked)
    assert not any(request.edits for request in asked)


def test_baselines_can_be_left_out() -> None:
    found = result(n_control_draws=0, prompt_baseline=False)
    assert (found.controls, found.control, found.selectivity, found.prompted) == ((),) + (None,) * 3


def test_a_limit_draws_the_same_eligible_images_each_time() -> None:
    first, second = result(max_eligible=2), result(max_eligible=2)
    assert first.n_eligible == 5
    assert len(first.answers) == 2
    assert first.answers == second.answers


def test_a_model_that_never_says_the_source_has_no_eligible_image_and_no_rate() -> None:
    samples = [fake_sample(i) for i in range(len(PLAIN))]
    silent = FakeCaptioner(samples, dict.fromkeys(PLAIN, "A red bus on a street."))
    evaluation, _ = steer(silent)
    found = evaluation.results[0]
    assert found.success == Rate(0, 0)
    assert found.selectivity is None
    assert "0/7" in evaluation.table()


def test_answers_are_asked_for_sixteen_at_a_time() -> None:
    samples = [fake_sample(i) for i in range(40)]
    captioner = FakeCaptioner(samples, {sample.key: "A red bus." for sample in samples})
    seen: list[tuple[str, int, int]] = []
    evaluate_steering(
        captioner,
        samples,
        pairs=[PAIR],
        on_progress=lambda stage, done, total: seen.append((stage, done, total)),
        make_request=fake_request,
    )
    assert captioner.batch_sizes == [16, 16, 8]
    assert seen[:4] == [("unsteered", done, 40) for done in (0, 16, 32, 40)]


def test_perplexity_is_judged_by_the_callers_likelihood_and_spares_short_answers() -> None:
    samples = [fake_sample(0), fake_sample(1)]
    captioner = FakeCaptioner(
        samples,
        {"image-000": "A dog runs on the grass.", "image-001": "A dog."},
        {"image-000": "A cat runs on the grass.", "image-001": "Cat."},
    )
    texts: list[str] = []

    def nll(batch: list[str]) -> list[float]:
        texts.extend(batch)
        return [9.0 if "cat" in text.lower() else 2.0 for text in batch]

    evaluation = evaluate_steering(
        captioner,
        samples,
        pairs=[PAIR],
        settings=SteeringSettings(n_control_draws=0, prompt_baseline=False),
        nll=nll,
        make_request=fake_request,
    )
    found = evaluation.results[0]
    assert found.corrupt_by("perplexity") == Rate(1, 2)
    assert found.success == Rate(1, 2)
    assert evaluation.perplexity_judged
    assert "A dog." not in texts and "Cat." not in texts


def test_rules_fitted_elsewhere_are_used_as_they_are() -> None:
    samples = [fake_sample(i) for i in range(len(PLAIN))]
    strict = CorruptionRules(length_limit=1.0, nll_limit=None)
    evaluation = evaluate_steering(
        FakeCaptioner(samples, PLAIN, STEERED),
        samples,
        pairs=[PAIR],
        rules=strict,
        make_request=fake_request,
    )
    assert evaluation.unsteered_corrupt == Rate(7, 7)
    assert evaluation.results[0].success == Rate(0, 5)


def test_the_report_holds_every_rate_as_json_and_says_what_was_not_judged() -> None:
    evaluation, _ = steer()
    report = json.loads(json.dumps(evaluation.to_json()))
    (entry,) = report["results"]
    assert entry["success"]["successes"] == 1
    assert entry["corrupt_by_rule"]["repetition"]["rate"] == pytest.approx(0.2)
    assert entry["features"] == 4
    assert entry["answers"][3]["corrupt"] == ["repetition"]
    table = evaluation.table()
    assert "dog -> cat" in table and "20 % (1/5" in table and "5/7" in table
    assert "perplexity not judged" in table


def test_an_invalid_pair_is_refused_before_anything_is_answered() -> None:
    samples = [fake_sample(0)]
    captioner = FakeCaptioner(samples, {"image-000": "A dog."})
    with pytest.raises(SparsightError, match="'dog' and 'poodle'"):
        evaluate_steering(
            captioner, samples, pairs=[SteeringPair("dog", "poodle")], make_request=fake_request
        )
    assert captioner.requests == []


def test_steering_no_image_is_refused() -> None:
    with pytest.raises(SparsightError, match="at least one sample"):
        evaluate_steering(FakeCaptioner([], {}), [], make_request=fake_request)


def test_control_features_are_live_distinct_and_of_the_same_density_decile() -> None:
    atlas, rng = fake_atlas(), np.random.default_rng(0)
    for _ in range(50):
        first, second = matched_features(atlas, (3, 44), {5}, rng)
        assert first in set(range(9)) - {3, 5}  # 90 live features, 9 a decile
        assert second in set(range(36, 54)) - {44}
        assert first != second


def test_too_few_live_features_for_a_control_are_refused() -> None:
    with pytest.raises(SparsightError, match="too few"):
        matched_features(fake_atlas(), (1,), range(90), np.random.default_rng(0))
