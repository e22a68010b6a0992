"""The projector of a model folder."""

from pathlib import Path

from safetensors.torch import load_file

from sparse_encoder.errors import SparsightError
from vlm.projector import Projector, ProjectorConfig

PROJECTOR = "projector.safetensors"


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
