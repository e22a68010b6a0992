"""Wire types of ``POST /v1/steering/sweep``."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from serving.wire import Wire
from vlm.sweep import MAX_SWEEP, SWEEP_DOSES
from vlm.template import DEFAULT_PROMPT


class SweepRequest(Wire):
    """The body; exactly one of `concept` and `feature`."""

    model: str = Field(description="As GET /v1/models names it.")
    image: str = Field(description="data:image/...;base64,...")
    concept: str | None = None
    feature: int | None = Field(None, description="Index of a feature.")
    doses: list[float] = Field(
        list(SWEEP_DOSES),
        max_length=MAX_SWEEP,
        description="p99, rising, 0 to 8; 0 takes the concept out.",
    )
    k: int | None = Field(None, description="Features that a concept becomes. Missing: 16.")
    prompt: str = Field(DEFAULT_PROMPT, min_length=1, description="What is asked.")
    max_tokens: int = Field(64, ge=1, description="Of each answer.")
    plot: bool = Field(False, description="Whether the answer has the curve as a picture, too.")


class SweepAnswer(BaseModel):
    """The answer at one dose."""

    dose: float | None  # p99; null of the unsteered one
    text: str
    finish_reason: Literal["stop", "length"]
    says: bool | None  # whether it names the concept; null for a feature without a name
    likeness: float | None  # cosine of answer and name in the text trunk, [-1, 1]
    receipt: dict[str, Any] | None  # null of the unsteered one


class SweepUsage(BaseModel):
    """Tokens of all answers together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class SweepResult(BaseModel):
    """All answers, in order of dose."""

    object: Literal["steering.sweep"] = "steering.sweep"
    model: str
    system_fingerprint: str
    concept: str | None  # lower case, single spaces
    k: int | None
    feature: int | None
    name: str  # of the concept or feature
    unit: Literal["p99"] = "p99"
    effective: float | None  # as calibrated; null where it is not
    safe_max: float | None
    unsteered: SweepAnswer
    points: list[SweepAnswer]
    usage: SweepUsage
    plot: str | None = None  # an SVG file, where it was asked for
