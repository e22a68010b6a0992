"""Wire types of ``POST /v1/features/locate``."""

from pydantic import BaseModel, Field

from serving.wire import Wire
from vlm.edits import MAX_K


class LocateRequest(Wire):
    """The body; exactly one of `feature` and `concept`."""

    image: str = Field(description="data:image/...;base64,...")
    feature: int | None = Field(None, description="Index of the feature to locate.")
    concept: str | None = Field(
        None, min_length=1, description="Or a concept: the sum of its features' maps."
    )
    k: int = Field(MAX_K, ge=1, le=MAX_K, description="How many features a concept becomes.")
    overlay: bool = Field(False, description="Also the photograph with the map over it, as PNG.")


class Located(BaseModel):
    """The cells of one photograph in which the features are active."""

    fingerprint: str
    sha256: str  # of the image's bytes
    features: list[int]
    names: list[str]  # "" where a feature has none
    cells: list[list[float]]  # sum of raw activations, rows from the top
    strongest: tuple[int, int] | None  # row and column from 0; null where no cell is active
    # Box of the strongest region: left, top, right, bottom in fractions of the upright photograph.
    region: tuple[float, float, float, float] | None
    overlay: (
        str | None
    )  # data:image/png;base64,..., at the photograph's own size; null if not asked
