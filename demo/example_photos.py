"""Photographs that may be shown; ``examples/ATTRIBUTION.md`` names their authors and terms."""

from importlib.resources import files
from pathlib import Path

NAMES = ("chelsea.jpg", "coffee.jpg", "rocket.jpg", "astronaut.jpg", "sign.jpg")


def example_photos() -> list[Path]:
    """Their paths, wherever this package is installed."""
    return [Path(str(files("demo").joinpath("examples", name))) for name in NAMES]
