"""What users import is there, and importing a package loads nothing heavy."""

import subprocess
import sys

import pytest

import sparse_encoder
import vlm


@pytest.mark.parametrize("package", [sparse_encoder, vlm])
def test_every_public_name_can_be_imported(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        package.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_packages_loads_no_torch() -> None:
    code = "import sparse_encoder, vlm, serving, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
