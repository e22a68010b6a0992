"""The projector of a model folder."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from sparse_encoder.errors import SparsightError
from vlm.projector import Projector, ProjectorConfig

PROJECTOR = "projector.safetensors"


def projector_entry(groups: tuple[int, int], removal: float) -> dict[str, Any]:
    """What ``config.json`` says of a projector, under ``projector``."""
    return {"groups": list(groups), **({"removal": removal} if removal else {})}


def projector_config(
    entry: dict[str, Any], features: int, hidden: int, grid: tuple[int, int]
) -> ProjectorConfig:
    """Sizes of a projector from `projector_entry` and what it stands between."""
    groups = tuple(entry["groups"])
    return ProjectorConfig(features, hidden, grid, groups, float(entry.get("removal", 0.0)))


def load_projector(folder: Path, config: ProjectorConfig) -> Projector:
    """Float32, in eval mode. Refuses weights of another shape."""
    projector = Projector(config)
    state = {k: v.float() for k, v in load_file(folder / PROJECTOR).items()}
    try:
        projector.load_state_dict(state)
    except RuntimeError as error:
        raise SparsightError(
            f"{folder / PROJECTOR} does not fit config.json: {error}; train it again"
        ) from error
    return projector.eval().requires_grad_(False)
