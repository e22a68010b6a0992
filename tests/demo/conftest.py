"""The page's client against a live gateway over the fake pipeline of the serving tests."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from demo.client import GatewayClient
from demo.example_photos import example_photos

SERVING = Path(__file__).parents[1] / "serving" / "conftest.py"


def _fakes() -> ModuleType:
    # Two conftest.py cannot both be imported by that name, so this one goes by its path.
    spec = importlib.util.spec_from_file_location("serving_fakes", SERVING)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    return _fakes()


@pytest.fixture(scope="session")
def url(fakes: ModuleType) -> Iterator[str]:
    with fakes.served(fakes.FakePipeline()) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[GatewayClient]:
    client = GatewayClient(url)
    yield client
    client.close()


@pytest.fixture
def nowhere() -> Iterator[GatewayClient]:
    """A client of a gateway that is not there."""
    client = GatewayClient("http://127.0.0.1:9", timeout_s=5)
    yield client
    client.close()


@pytest.fixture
def photo() -> Path:
    return example_photos()[0]


@pytest.fixture
def no_photo(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jpg"
    path.write_bytes(b"this is no photograph")
    return path


@pytest.fixture
def feature() -> Any:
    """Makes a feature as the gateway sends it."""

    def make(index: int, name: str = "cat", p99: float | None = 1.0) -> dict[str, Any]:
        return {"feature": index, "name": name, "activation": 2.0, "p99": p99, "share": 0.25}

    return make
