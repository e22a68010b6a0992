"""The fake pipeline of the serving tests, for examples in the pages."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SERVING = Path(__file__).parents[1] / "serving" / "conftest.py"


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    # Two conftest.py cannot both be imported by that name, so this one goes by its path.
    spec = importlib.util.spec_from_file_location("serving_fakes", SERVING)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
