"""The tiny pipeline, and a photograph that its random captioner says a word about."""

import pytest

from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage
from tests.tiny_model import photo, tiny_pipeline
from vlm.explain.captioner import Captioner
from vlm.pipeline import Pipeline


@pytest.fixture(scope="session")
def tiny() -> Pipeline:
    pipeline = tiny_pipeline()
    for part in (pipeline.projector, pipeline.model):
        part.requires_grad_(False)  # as a loaded one
    return pipeline


@pytest.fixture(scope="session")
def picture() -> DecodedImage:
    return photo(0)


@pytest.fixture
def codes(tiny: Pipeline, picture: DecodedImage) -> Codes:
    return tiny.encode([picture]).clone()  # gradients are taken of them


@pytest.fixture
def captioner(tiny: Pipeline, picture: DecodedImage) -> Captioner:
    return Captioner(tiny, picture)
