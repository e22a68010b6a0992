"""The request of ``POST /v1/explain``; its answer is vlm.explain's `Explanation` as it is."""

from pydantic import Field

from serving.wire import Wire
from vlm.explain.explain import DEFAULT_TOP, MAX_TEXT_LENGTH, MAX_TOP
from vlm.explain.word_place import MAX_WORD_LENGTH


class ExplainRequest(Wire):
    """The body of ``POST /v1/explain``."""

    image: str = Field(description="data:image/...;base64,...")
    text: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_TEXT_LENGTH,
        description="Also why the photograph is as like this text as it is.",
    )
    word: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_WORD_LENGTH,
        description="Also which features made the caption say this word.",
    )
    top: int = Field(
        DEFAULT_TOP, ge=1, le=MAX_TOP, description="How many features, words and terms are listed."
    )
