"""What the gateway takes on: sizes of one request, how long it may take, how much may wait."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from serving.remote_image import RemoteImages
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import ImageLimits


@dataclass(frozen=True)
class Limits:
    """Upper bounds, each of at least 1. Safe to share."""

    max_body_bytes: int = 32 * 2**20  # of one request; data URIs are a third larger than files
    max_images: int = 8  # in one request
    max_pixels: int = 50_000_000  # of one photograph, as its header states them
    max_messages: int = 64  # in one request
    max_text: int = 20_000  # characters in one request, far above the LLM's context
    max_tokens: int = 512  # new tokens of one answer
    max_open: int = 64  # requests accepted and not yet answered; more are told to come back
    max_batch: int = 16  # requests answered at once
    max_streams: int = 8  # streams written at once, each holds its own attention cache
    batch_wait_ms: int = 5  # how long a request waits for others to share its batch
    body_s: int = 30  # seconds in which a request's body has to be here
    deadline_s: int = 300  # seconds from a request's first byte to its answer's last
    key_per_minute: int = 600  # requests of one API key, unless the key says otherwise
    key_open: int = 32  # requests of one API key at once, unless the key says otherwise
    remote: RemoteImages = field(default_factory=RemoteImages)  # from where images are fetched

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{one.name} is {value}, expected 1 or more")

    @property
    def image(self) -> ImageLimits:
        """What is decoded at all."""
        return ImageLimits(max_pixels=self.max_pixels)


def read_limits(settings: Iterable[str], image_hosts: Iterable[str] = ()) -> Limits:
    """Limits with some changed, each as ``name=value``. Raises SparsightError for what is none."""
    names = [one.name for one in fields(Limits) if one.type is int]
    found: dict[str, int] = {}
    for setting in settings:
        name, _, value = (part.strip() for part in setting.partition("="))
        if name not in names:
            raise SparsightError(
                f"no limit named {name[:80]!r}; expected one of {', '.join(names)}", param="limit"
            )
        if not (value.isascii() and value.isdigit() and int(value[:18]) >= 1):
            raise SparsightError(
                f"{name} is {value[:80]!r}, expected a whole number of 1 or more", param="limit"
            )
        found[name] = int(value[:18])
    return Limits(**found, remote=RemoteImages(frozenset(host.lower() for host in image_hosts)))
