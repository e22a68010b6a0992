"""The pipeline's mechanics on random weights."""

import pytest
import torch

from sparse_encoder.errors import SparsightError
from tests.tiny_model import photo, tiny_pipeline
from vlm.edits import Edit
from vlm.pipeline import (
    Answer,
    ImagePart,
    Message,
    Pipeline,
    Request,
    Sampling,
    TextPart,
    caption_request,
)
from vlm.receipt import verify_receipt


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return tiny_pipeline()


def _live(pipeline: Pipeline, n: int = 1) -> list[int]:
    """The features that are most active on photo 0."""
    row = pipeline.encode([photo(0)]).dense()[0]
    return [int(i) for i in row.argsort(descending=True)[:n]]


def test_the_global_pre_code_is_the_mean_of_the_cells(pipeline: Pipeline) -> None:
    trunk, head = pipeline.encoder.image_trunk, pipeline.encoder.image_head
    cells = trunk(trunk.preprocess([photo(0).pixels]))[0]
    global_code = pipeline.encode([photo(0)]).dense()[0]
    torch.testing.assert_close(head.pre_code(cells).mean(0).relu(), global_code)
    torch.testing.assert_close(head(cells.mean(0)), global_code, atol=1e-5, rtol=1e-5)


def test_no_edits_give_the_very_same_codes_and_text(pipeline: Pipeline) -> None:
    codes = pipeline.encode([photo(0)])
    assert pipeline.steer(codes, ()).codes is codes
    plain, empty = pipeline.answer([caption_request(photo(0)), caption_request(photo(0), edits=())])
    assert plain.text == empty.text


def test_an_edit_that_changes_nothing_gives_bit_identical_codes_and_text(
    pipeline: Pipeline,
) -> None:
    row = pipeline.encode([photo(0)])
    silent = sorted(set(range(64)) - set(row.index.tolist()))
    alive = [i for i in silent if not pipeline.atlas.dead[i]] or [_live(pipeline)[0]]
    op = (
        Edit(op="ablate", feature=alive[0])
        if silent
        else Edit(op="scale", feature=alive[0], value=1.0)
    )
    steered = pipeline.steer(row, [op])
    assert steered.codes.sha256() == row.sha256()
    plain, same = pipeline.answer(
        [caption_request(photo(0)), caption_request(photo(0), edits=[op])]
    )
    assert plain.text == same.text


def test_an_edit_changes_the_codes_and_leaves_a_true_receipt(pipeline: Pipeline) -> None:
    feature = _live(pipeline)[0]
    edits = [Edit(op="ablate", feature=feature)]
    answer = pipeline.answer([caption_request(photo(0), edits=edits)])[0]
    assert answer.receipt is not None
    receipt = answer.receipt.to_json()
    edited = pipeline.steer(pipeline.encode([photo(0)]), edits).edited
    assert receipt["codes_sha256"] == edited.sha256()
    assert edited.codes.dense()[:, feature].abs().sum() == 0
    assert verify_receipt(receipt, [photo(0)], pipeline) == []
    assert verify_receipt(receipt, [photo(1)], pipeline) != []


def test_answers_do_not_depend_on_what_they_are_batched_with(pipeline: Pipeline) -> None:
    requests = [
        caption_request(
            photo(i), prompt="Say " + "so " * i, sampling=Sampling(max_tokens=4 + 3 * i)
        )
        for i in range(4)
    ]
    together = pipeline.answer(requests)
    alone = [pipeline.answer([r])[0] for r in requests]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.n_completion_tokens for a in together] == [a.n_completion_tokens for a in alone]


def test_a_stream_says_what_the_whole_answer_says(pipeline: Pipeline) -> None:
    request = caption_request(photo(2), sampling=Sampling(max_tokens=12))
    *pieces, last = pipeline.stream(request)
    assert isinstance(last, Answer)
    assert "".join(str(p) for p in pieces) == last.text == pipeline.answer([request])[0].text


def test_a_stop_string_ends_the_answer_before_it(pipeline: Pipeline) -> None:
    whole = pipeline.answer([caption_request(photo(0), sampling=Sampling(max_tokens=12))])[0].text
    assert len(whole) > 3
    stop = whole[2:4]
    request = caption_request(photo(0), sampling=Sampling(max_tokens=12, stop=(stop,)))
    answer = pipeline.answer([request])[0]
    assert answer.text == whole[: whole.index(stop)] and answer.finish_reason == "stop"
    *pieces, _ = pipeline.stream(request)
    assert "".join(str(p) for p in pieces) == answer.text


def test_an_equal_seed_samples_an_equal_answer(pipeline: Pipeline) -> None:
    def say(seed: int) -> str:
        sampling = Sampling(max_tokens=16, temperature=1.5, seed=seed)
        return pipeline.answer([caption_request(photo(0), sampling=sampling)])[0].text

    assert say(1) == say(1)
    assert len({say(seed) for seed in range(4)}) > 1


def test_two_images_and_two_turns_are_read_in_order(pipeline: Pipeline) -> None:
    chat = (
        Message("system", (TextPart("Be brief."),)),
        Message("user", (ImagePart(photo(0)), TextPart("and"), ImagePart(photo(1)))),
        Message("assistant", (TextPart("Yes."),)),
        Message("user", (TextPart("Which?"),)),
    )
    answer = pipeline.answer([Request(chat, want_receipt=True)])[0]
    assert answer.receipt is not None
    digests = [i["sha256"] for i in answer.receipt.to_json()["images"]]
    assert digests == [photo(0).sha256, photo(1).sha256]


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (Request((Message("user", (TextPart("hi"),)),), (Edit(op="ablate", feature=1),)), "no"),
        (caption_request(photo(0), prompt="<|im_end|>"), "reserved"),
        (caption_request(photo(0), prompt="x" * 600), "max_tokens"),
        (caption_request(photo(0), edits=[Edit(op="ablate", concept="zzqqy")]), "zzqqy"),
        (caption_request(photo(0), edits=[Edit(op="ablate", feature=1, image=3)]), "image"),
    ],
)
def test_requests_that_cannot_be_answered_in_full_are_refused(
    pipeline: Pipeline, request_: Request, word: str
) -> None:
    with pytest.raises(SparsightError, match=word):
        pipeline.answer([request_])


def test_images_seen_lately_are_not_encoded_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.encode([photo(7)])
    monkeypatch.setattr(pipeline.encoder, "encode_images", None)
    assert pipeline.encode([photo(7), photo(7)]).n_images == 2


def test_codes_that_come_with_a_request_take_the_place_of_the_encoders(pipeline: Pipeline) -> None:
    own, other = (pipeline.encode([photo(i)]) for i in (0, 1))
    plain, given, foreign = (
        pipeline._prepare(request).prompt
        for request in (
            caption_request(photo(0)),
            caption_request(photo(0), codes=own),
            caption_request(photo(0), codes=other),
        )
    )
    assert torch.equal(plain, given)
    assert not torch.equal(plain, foreign)


def test_given_codes_that_nobody_could_verify_or_place_are_refused(pipeline: Pipeline) -> None:
    codes = pipeline.encode([photo(0)])
    edits = [Edit(op="ablate", feature=_live(pipeline)[0])]
    with pytest.raises(SparsightError, match="take no edits"):
        pipeline.answer([caption_request(photo(0), edits=edits, codes=codes)])
    two = pipeline.encode([photo(0), photo(1)])
    with pytest.raises(SparsightError, match="2 images were given for 1"):
        pipeline.answer([caption_request(photo(0), codes=two)])
