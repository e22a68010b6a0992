"""Subject accuracy of a captioner with known answers, by set and by label."""

import json

import pytest
from fake_captioner import FakeCaptioner, fake_request, fake_sample

from sparse_encoder.errors import SparsightError
from vlm.rate import Rate
from vlm.subject_eval import evaluate_subjects
from vlm.template import SUBJECT_PROMPT


def test_accuracy_is_counted_by_set_and_by_label() -> None:
    pets = [fake_sample(i, label=label) for i, label in enumerate(["dog", "dog", "cat"])]
    things = [fake_sample(10, label="cup or mug"), fake_sample(11, label="tick")]
    answers = ["Poodle.", "A cat", "Kittens", "coffee mug", "A clock"]
    samples = [*pets, *things]
    captioner = FakeCaptioner(
        samples, dict(zip([sample.key for sample in samples], answers, strict=True))
    )
    found = evaluate_subjects(
        captioner, {"pets": pets, "things": things}, make_request=fake_request
    )
    assert found.accuracy("pets") == Rate(2, 3)
    assert found.accuracy("things") == Rate(1, 2)
    assert found.accuracy_by_label("pets") == {"cat": Rate(1, 1), "dog": Rate(1, 2)}
    assert {request.prompt for request in captioner.requests} == {SUBJECT_PROMPT}

    report = json.loads(json.dumps(found.to_json()))
    assert report["pets"]["wrong"] == [{"key": "image-001", "label": "dog", "answer": "A cat"}]
    assert "pets    67 % (2/3" in found.table()


def test_a_sample_without_a_label_is_refused_by_name() -> None:
    sample = fake_sample(4)
    with pytest.raises(SparsightError, match="image-004"):
        evaluate_subjects(
            FakeCaptioner([sample], {sample.key: "x"}),
            {"pets": [sample]},
            make_request=fake_request,
        )
