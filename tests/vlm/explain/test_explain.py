"""The one explanation behind command line and server."""

import json
from dataclasses import asdict

import pytest
import torch

from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from tests.tiny_model import photo
from vlm.explain.ablation_trial import N_CONTROLS, ablated
from vlm.explain.captioner import Captioner
from vlm.explain.explain import Explanation, explain, explain_in_steps, finish
from vlm.explain.word_cause import N_CAUSES, WordCause, explain_word
from vlm.explain.word_place import find_word
from vlm.pipeline import Pipeline, caption_request

SAID = "Q"  # the random captioner's caption of this photograph has it as a word of its own


@pytest.fixture(scope="module")
def whole(tiny: Pipeline, picture: DecodedImage) -> Explanation:
    return explain(tiny, picture, text="a dog on a beach", word=SAID, top=4)


@pytest.fixture(scope="module")
def cause(whole: Explanation) -> WordCause:
    assert whole.word is not None
    return whole.word


def test_without_text_and_word_there_are_features_and_words_alone(
    tiny: Pipeline, picture: DecodedImage
) -> None:
    found = explain(tiny, picture, top=4)
    assert (len(found.features), found.similarity, found.word) == (4, None, None)
    code = tiny.encode([picture]).dense()[0]
    assert found.n_active == int((code > 0).sum())
    assert found.norm == pytest.approx(float(code.norm()))
    assert found.features[0].activation == float(code.max())


def test_it_is_one_json_object_with_the_fields_as_keys(whole: Explanation) -> None:
    again = json.loads(json.dumps(whole.to_json()))
    assert again == json.loads(json.dumps(asdict(whole)))
    assert list(again) == list(Explanation.__dataclass_fields__)


def test_equal_requests_get_equal_explanations(
    tiny: Pipeline, picture: DecodedImage, whole: Explanation
) -> None:
    assert explain(tiny, picture, text="a dog on a beach", word=SAID, top=4) == whole


def test_the_caption_of_a_word_is_the_pipelines(
    tiny: Pipeline, picture: DecodedImage, cause: WordCause
) -> None:
    assert cause.caption == tiny.answer([caption_request(picture)])[0].text
    assert cause.said == SAID
    assert cause.caption.startswith(cause.before + SAID)
    assert cause.log_prob < 0


def test_causes_are_the_largest_attributions_and_each_is_tried_out_beside_random_features(
    cause: WordCause,
) -> None:
    assert 1 <= len(cause.causes) <= N_CAUSES
    guesses = [c.attribution for c in cause.causes]
    assert guesses == sorted(guesses, reverse=True) and guesses[-1] > 0
    for one in cause.causes:
        assert len(one.control_losses) == N_CONTROLS
        assert one.confirmed == (one.ablated.loss > max(0.0, *one.control_losses))
        assert one.ablated.says_word == (find_word(SAID, one.ablated.caption) is not None)
    assert cause.together is not None and cause.together_control is not None


def test_the_loss_of_a_cause_is_what_ablating_it_takes_from_the_word(
    tiny: Pipeline, picture: DecodedImage, cause: WordCause
) -> None:
    captioner, codes = Captioner(tiny, picture), tiny.encode([picture])
    (caption,) = captioner.captions(codes)
    n_before = len(caption) - len(
        next(rest for rest in (caption[i:] for i in range(len(caption)))
             if captioner.text(rest).startswith(SAID))
    )  # fmt: skip
    before, word = caption[:n_before], caption[n_before : n_before + 1]
    for features, loss in (
        ([cause.causes[0].feature], cause.causes[0].ablated.loss),
        ([c.feature for c in cause.causes], cause.together.loss if cause.together else None),
    ):
        with torch.inference_mode():
            plain = captioner.log_probs(codes, before, word) - captioner.log_probs(
                ablated(codes, features), before, word
            )
        assert loss == pytest.approx(float(plain), abs=1e-3)
    assert cause.log_prob == pytest.approx(
        float(captioner.log_probs(codes, before, word)), abs=1e-4
    )


def test_a_word_of_the_vocabulary_that_is_not_said_is_explained_too(
    tiny: Pipeline, picture: DecodedImage
) -> None:
    found = finish(explain_word(tiny, picture, "dog"))
    assert found.said is None and found.word == "dog"
    assert found.caption.startswith(found.before)


def test_a_long_explanation_pauses_between_its_steps(tiny: Pipeline, picture: DecodedImage) -> None:
    steps = list(explain_in_steps(tiny, picture, text="dog", word=SAID))
    assert steps[:5] == ["words", "text", "caption", "attribution", "ablations"]
    assert set(steps[5:]) == {"random features"}


def test_another_seed_draws_other_random_features_for_the_same_causes(
    tiny: Pipeline, picture: DecodedImage, cause: WordCause
) -> None:
    other = finish(explain_word(tiny, picture, SAID, seed=1))
    assert [c.feature for c in other.causes] == [c.feature for c in cause.causes]
    assert [c.control_losses for c in other.causes] != [c.control_losses for c in cause.causes]


@pytest.mark.parametrize(
    ("asked", "words", "param"),
    [
        ({"text": ""}, "text is empty", "text"),
        ({"text": " \n"}, "text is empty", "text"),
        ({"text": "a" * 1001}, "1,001 characters", "text"),
        ({"word": ""}, "expected a word", "word"),
        ({"word": "w" * 51}, "at most 50", "word"),
        ({"word": "<|im_start|>"}, "reserved", "word"),
        ({"word": "xqzzt"}, "does not say", "word"),
        ({"word": "two words"}, "does not say", "word"),
        ({"top": 0}, "1 to 256", "top"),
        ({"top": 257}, "1 to 256", "top"),
    ],
)
def test_bad_questions_are_refused_by_their_key(
    tiny: Pipeline, asked: dict[str, object], words: str, param: str
) -> None:
    with pytest.raises(SparsightError, match=words) as caught:
        explain(tiny, photo(0), **asked)
    assert caught.value.param == param
