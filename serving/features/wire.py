"""Wire types of the feature endpoints."""

from typing import Any

from pydantic import BaseModel, Field

from serving.wire import Wire


class ActivationsRequest(Wire):
    """The body of ``POST /v1/features/activations``; one of `image` and `images`."""

    image: str | None = Field(None, description="data:image/...;base64,...")
    images: list[str] | None = Field(None, description="Several, answered as sparse codes.")
    top: int = Field(20, ge=1, le=256, description="How many features, strongest first.")
    all: bool = Field(False, description="Every active feature, not the `top` strongest.")
    cells: bool = Field(False, description="Also where each is active; with `image` alone.")


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


class SparseCode(BaseModel):
    """One image's global code, strongest first; the three lists are equally long."""

    sha256: str  # of the image's bytes
    n_active: int  # features above 0, of which `top` are listed
    norm: float  # L2 of the whole code, raw units
    indices: list[int]
    values: list[float]  # raw units, above 0
    names: list[str]  # "" where a feature has none


class SparseCodes(BaseModel):
    """The codes of `images`, in their order."""

    fingerprint: str
    n_features: int  # the length of a code
    codes: list[SparseCode]


class NamedFeature(BaseModel):
    feature: int
    name: str
    runner_up: list[str]  # further names, best first
    density: float  # share of reference images with it active, [0, 1]
    p99: float  # 99th percentile of its non-zero activations, raw units; the unit of a dose
    match: str  # "equal", "start", "part" or "close" by name, "text" by text activation, "" listed
    closeness: float  # spelling similarity of the name that matched, [0, 1]
    text: float  # text activation for the query over the best feature's, [0, 1]


class FeatureList(BaseModel):
    fingerprint: str
    features: list[NamedFeature]
    total: int  # of the whole search
    next_cursor: str | None  # `cursor` of the next page; null on the last


class FeatureNeighbour(BaseModel):
    feature: int
    name: str
    cosine: float  # of the two rows of the image head, [-1, 1]


class FeatureTopImage(BaseModel):
    """A reference image by its id; the image itself is not the model's to give."""

    id: str  # in its shard
    shard: str
    activation: float  # global, raw units
    grid: tuple[int, int]  # rows and columns of cells
    strongest: tuple[int, int]  # row and column of the strongest cell, from 0 at the top left


class FeatureDetail(BaseModel):
    """The answer of ``GET /v1/features/{id}``; activations in raw units."""

    fingerprint: str
    feature: int
    name: str
    runner_up: list[str]
    name_score: float  # text activation of the name
    density: float  # [0, 1]
    p50: float  # percentiles of the non-zero activations, 0 where dead
    p90: float
    p99: float
    max: float
    modality: float  # [0, 1], 1 = active on images only
    dead: bool
    neighbours: list[FeatureNeighbour]
    top_images: list[FeatureTopImage]  # strongest first; [] where the atlas came without them
    more: dict[str, Any]  # further columns of this model's atlas; null where not measured
