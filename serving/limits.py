"""What the gateway takes on: sizes of one request, and how much may wait."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Upper bounds, each of at least 1. Safe to share."""

    max_body_bytes: int = 32 * 2**20  # of one request; data URIs are a third larger than files
    max_images: int = 8  # in one request
    max_messages: int = 64  # in one request
    max_text: int = 20_000  # characters in one request, far above the LLM's context
    max_tokens: int = 512  # new tokens of one answer
    max_open: int = 64  # requests accepted and not yet answered; more are told to come back
    max_batch: int = 16  # requests answered at once
    max_streams: int = 8  # streams written at once, each holds its own attention cache
    batch_wait_ms: int = 5  # how long a request waits for others to share its batch

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}, expected 1 or more")
