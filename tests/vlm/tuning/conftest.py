"""Data that the tests of tuning share."""

from pathlib import Path

import pytest

from tests.vlm.tuning.tuning_case import (
    write_captions,
    write_conversations,
    write_encoder,
    write_words,
)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def captions(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_captions(tmp_path_factory.mktemp("captions"))


@pytest.fixture(scope="session")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_conversations(tmp_path_factory.mktemp("talks"))


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_words(tmp_path_factory.mktemp("words")))
