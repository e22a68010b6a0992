"""Wire types of the feature endpoints."""

from pydantic import BaseModel, Field

from serving.wire import Wire


class ActivationsRequest(Wire):
    """The body of ``POST /v1/features/activations``."""

    image: str = Field(description="data:image/...;base64,...")
    top: int = Field(20, ge=1, le=256, description="How many features, strongest first.")
    cells: bool = Field(False, description="Also where each is active.")


class ActiveFeature(BaseModel):
    """One feature of one image; activations are un-normalised."""

    feature: int
    name: str  # "" where the feature has none
    activation: float  # in the global code, raw units
    p99: float | None  # the same in multiples of the feature's p99; None where it is dead
    share: float  # of the global code's squared norm, [0, 1]
    cells: list[list[float]] | None = None  # raw activations, rows from the top


class Activations(BaseModel):
    """The strongest features of an image; ``cells`` of each only when asked for."""

    fingerprint: str
    sha256: str  # of the image's bytes
    n_active: int  # features above 0 in the global code
    norm: float  # L2 of the global code, raw units
    features: list[ActiveFeature]


class NamedFeature(BaseModel):
    feature: int
    name: str
    runner_up: list[str]  # further names, best first
    density: float  # share of reference images with it active, [0, 1]
    p99: float  # 99th percentile of its non-zero activations, raw units; the unit of a dose


class FeatureList(BaseModel):
    fingerprint: str
    features: list[NamedFeature]
