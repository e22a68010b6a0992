"""A sweep is one batch over one encoding, and each of its answers is that of a plain request."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DoseCurve, Doses
from sparse_encoder.errors import SparsightError
from tests.tiny_model import photo, tiny_pipeline
from vlm.edits import Edit
from vlm.pipeline import Pipeline, Sampling, caption_request
from vlm.sweep import MAX_SWEEP, sweep
from vlm.sweep_plot import sweep_svg


@pytest.fixture(scope="module")
def tiny() -> Pipeline:
    return tiny_pipeline()


def calibrated(atlas: FeatureAtlas) -> FeatureAtlas:
    curve = DoseCurve("dog", 16, None, "dog", (0.5, 1.0), 40, (9, 9), (0, 0), 0.5, 1.0, True)
    doses = Doses(atlas.fingerprint, atlas.scales_sha256, {"corruption": 0.1}, (curve,))
    return replace(atlas, doses=doses)


def test_a_sweep_encodes_once_and_answers_once(
    tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, batches = [], []
    encode, answer = tiny.encoder.encode_images, tiny.answer

    def counted(images: Any) -> Any:
        encoded.append(len(images))
        return encode(images)

    def batched(requests: Any) -> Any:
        batches.append(len(requests))
        return answer(requests)

    monkeypatch.setattr(tiny.encoder, "encode_images", counted)
    monkeypatch.setattr(tiny, "answer", batched)
    sweep(tiny, photo(77), concept="dog", doses=(0.0, 0.5, 1.0, 8.0), max_tokens=4)
    assert (encoded, batches) == ([1], [5])


def test_each_answer_is_that_of_a_plain_request(tiny: Pipeline) -> None:
    doses = (0.0, 1.0, 8.0)
    found = sweep(tiny, photo(1), concept=" Dog", k=4, doses=doses, max_tokens=6)
    assert (found.concept, found.k, found.name) == ("dog", 4, "dog")
    assert [point.dose for point in found.points] == list(doses)
    sampling = Sampling(max_tokens=6)
    (plain,) = tiny.answer([caption_request(photo(1), sampling=sampling)])
    assert (found.unsteered.answer.text, found.unsteered.dose) == (plain.text, None)
    for dose, point in zip(doses, found.points, strict=True):
        edits = (Edit("clamp", "dog", value=dose, k=4),)
        (alone,) = tiny.answer([caption_request(photo(1), edits=edits, sampling=sampling)])
        assert point.answer.text == alone.text
        assert point.answer.receipt is not None and alone.receipt is not None
        assert point.answer.receipt.codes_sha256 == alone.receipt.codes_sha256


def test_a_feature_without_a_name_is_swept_but_not_judged(
    tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["" if i == 3 else name for i, name in enumerate(tiny.atlas.names)]
    monkeypatch.setattr(tiny, "atlas", replace(tiny.atlas, names=names))
    found = sweep(tiny, photo(1), feature=3, doses=(1.0,), max_tokens=3)
    assert {(p.says, p.likeness) for p in (found.unsteered, *found.points)} == {(None, None)}
    assert (found.feature, found.k) == (3, None)
    ElementTree.fromstring(sweep_svg(found))


@pytest.mark.parametrize(
    ("asked", "word", "param"),
    [
        ({}, "neither", "concept"),
        ({"concept": "dog", "feature": 1}, "both", "concept"),
        ({"concept": "zzyzx"}, "no concept named", "concept"),
        ({"feature": 64}, "feature is 64, outside 0..63", "feature"),
        ({"feature": 1, "k": 3}, "feature edit has none", "k"),
        ({"concept": "dog", "k": 17}, "1 to 16", "k"),
        ({"concept": "dog", "doses": ()}, "at least one", "doses"),
        ({"concept": "dog", "doses": (1.0, 0.5)}, "rising order", "doses"),
        ({"concept": "dog", "doses": (0.0, 8.5)}, "from 0 to 8", "doses[1]"),
        ({"concept": "dog", "doses": (-1.0,)}, "from 0 to 8", "doses[0]"),
        ({"concept": "dog", "doses": (float("nan"),)}, "nan", "doses[0]"),
        ({"concept": "dog", "doses": tuple(i / 4 for i in range(16))}, "at most 15", "doses"),
    ],
)
def test_bad_sweeps_are_refused_by_their_argument(
    tiny: Pipeline, asked: dict[str, Any], word: str, param: str
) -> None:
    with pytest.raises(SparsightError, match=re.escape(word)) as refused:
        sweep(tiny, photo(1), **asked)
    assert refused.value.param == param


def test_the_largest_sweep_is_one_batch_of_the_gateway() -> None:
    from serving.limits import Limits

    assert Limits().max_batch >= MAX_SWEEP + 1


def test_the_plot_shows_every_caption_and_the_calibrated_doses(
    tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "atlas", calibrated(tiny.atlas))
    found = sweep(tiny, photo(1), concept="dog", doses=(0.0, 0.5, 1.0, 2.0), max_tokens=4)
    assert found.curve is not None
    point = found.points[1]
    said = replace(point.answer, text='A <b>dog</b> & "more"')
    found = replace(found, points=(found.points[0], replace(point, says=True, answer=said)))
    root = ElementTree.fromstring(sweep_svg(found))
    space = "{http://www.w3.org/2000/svg}"
    words = [text.text or "" for text in root.iter(f"{space}text")]
    assert any('A <b>dog</b> & "more"' in line for line in words)
    assert "effective" in words and "safe_max" not in words  # 1 p99 is no longer among the doses
    assert [c.get("class") for c in root.iter(f"{space}circle")].count("says") >= 1
