"""Terms of the cosine: they add up to it, whatever is listed."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from vlm.explain.similarity import split_similarity
from vlm.pipeline import Pipeline


def random_code(seed: int) -> torch.Tensor:
    return torch.randn(12, generator=torch.Generator().manual_seed(seed)).relu()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=st.integers(0, 10**6), text=st.integers(0, 10**6), top=st.integers(1, 14))
def test_the_listed_terms_and_the_rest_add_up_to_the_cosine(
    tiny_atlas: FeatureAtlas, image: int, text: int, top: int
) -> None:
    image_code, text_code = random_code(image), random_code(text)
    found = split_similarity(Codes.from_dense(image_code[None]), "x", text_code, tiny_atlas, top)
    assert abs(sum(t.term for t in found.terms) + found.rest - found.cosine) < 1e-9
    assert found.cosine == pytest.approx(
        float(cosine_similarity(image_code, text_code, dim=0)), abs=1e-5
    )
    shared = (image_code > 0) & (text_code > 0)
    assert found.n_shared == int(shared.sum())
    assert len(found.terms) == min(top, found.n_shared)
    assert all(shared[t.feature] for t in found.terms)
    terms = [t.term for t in found.terms]
    assert terms == sorted(terms, reverse=True) and all(term > 0 for term in terms)


@pytest.mark.parametrize("which", ["image", "text", "both"])
def test_an_empty_code_is_like_nothing(tiny_atlas: FeatureAtlas, which: str) -> None:
    image_code, text_code = random_code(1), random_code(2)
    if which != "text":
        image_code = torch.zeros(12)
    if which != "image":
        text_code = torch.zeros(12)
    found = split_similarity(Codes.from_dense(image_code[None]), "x", text_code, tiny_atlas, 3)
    assert (found.cosine, found.terms, found.rest, found.n_shared) == (0.0, (), 0.0, 0)


def test_the_cosine_is_the_one_that_retrieval_uses(tiny: Pipeline, codes: Codes) -> None:
    text_code = tiny.encoder.encode_texts(["a dog on a beach"])[0]
    found = split_similarity(codes, "a dog on a beach", text_code, tiny.atlas, 64)
    plain = cosine_similarity(codes.dense()[0], text_code, dim=0)
    assert abs(sum(t.term for t in found.terms) - float(plain)) < 1e-5
