"""What holds for every test."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# A machine under load is no failure; what is slow is said by the benches.
settings.register_profile("sparsight", deadline=None)
settings.load_profile("sparsight")

SERVING = Path(__file__).parent / "serving" / "conftest.py"


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The fake pipeline of the serving tests, for those of the page and of the documents."""
    # Two conftest.py cannot both be imported by that name, so this one goes by its path.
    spec = importlib.util.spec_from_file_location("serving_fakes", SERVING)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
