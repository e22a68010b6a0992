"""The projector that fits an encoder, a language model and the soft tokens that a run asks for."""

from typing import Any

from sparse_encoder.any_encoder import AnyEncoder
from sparse_encoder.errors import SparsightError
from vlm.projector import ProjectorConfig
from vlm.tuning.config import TuneRun


def projector_shape(encoder: AnyEncoder, llm: Any, run: TuneRun) -> ProjectorConfig:
    """Raises SparsightError where the encoder's cells cannot be cut into the run's groups."""
    try:
        return ProjectorConfig(
            encoder.config.features, llm.config.hidden_size, encoder.grid, run.groups, run.removal
        )
    except ValueError as error:
        raise SparsightError(
            f"groups={list(run.groups)}: {error}; the encoder has {encoder.grid[0]} x "
            f"{encoder.grid[1]} cells",
            param="groups",
        ) from error
