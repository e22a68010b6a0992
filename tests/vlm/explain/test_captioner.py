"""The opened captioner says and scores what the pipeline does."""

import pytest
import torch

from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage
from tests.tiny_model import photo
from vlm.explain.captioner import BLOCK, Captioner
from vlm.pipeline import Pipeline, caption_request


def test_the_caption_is_the_pipelines(
    tiny: Pipeline, picture: DecodedImage, codes: Codes, captioner: Captioner
) -> None:
    (tokens,) = captioner.captions(codes)
    assert captioner.text(tokens) == tiny.answer([caption_request(picture)])[0].text


def test_a_batch_larger_than_a_block_scores_each_code_as_alone(
    tiny: Pipeline, captioner: Captioner
) -> None:
    many = tiny.encode([photo(i) for i in range(BLOCK + 3)])
    together = captioner.log_probs(many, [70], [75, 76])
    alone = [captioner.log_probs(many.image(i), [70], [75, 76]) for i in range(many.n_images)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_a_words_log_probability_is_the_sum_of_its_tokens(
    codes: Codes, captioner: Captioner
) -> None:
    whole = captioner.log_probs(codes, [70], [75, 76, 77])
    parts = sum(captioner.log_probs(codes, [70, *[75, 76, 77][:i]], [75 + i]) for i in range(3))
    torch.testing.assert_close(whole, parts, atol=1e-4, rtol=1e-4)


def test_what_may_follow_is_a_distribution_that_agrees_with_the_words_score(
    codes: Codes, captioner: Captioner
) -> None:
    rows = captioner.next_log_probs(codes, [70, 71])
    torch.testing.assert_close(rows.exp().sum(1), torch.ones(3), atol=1e-4, rtol=1e-4)
    assert float(rows[1, 99]) == pytest.approx(
        float(captioner.log_probs(codes, [70], [99])), abs=1e-4
    )


def test_the_greedy_captions_first_token_is_the_likeliest(
    codes: Codes, captioner: Captioner
) -> None:
    (tokens,) = captioner.captions(codes)
    assert int(captioner.next_log_probs(codes, [])[0].argmax()) == tokens[0]
