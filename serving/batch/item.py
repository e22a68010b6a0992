"""One photograph on its way: named by a source, then read."""

from dataclasses import dataclass

from sparse_encoder.image import DecodedImage


@dataclass(frozen=True)
class Item:
    """A photograph that a source named. `name` stands for it in every output.

    data: its bytes, where the source had to read them (archives, tables); None: they lie at `name`.
    error: why there is no photograph, where the source knows (an empty folder, half an archive).
    """

    name: str
    data: bytes | None = None
    error: str | None = None


@dataclass(frozen=True)
class Photo:
    """A photograph that was read: `sha256` of its bytes, or `error` in words.

    image: where it is decoded in this process. data: only where the bytes were wanted.
    """

    name: str
    image: DecodedImage | None = None
    error: str | None = None
    data: bytes | None = None
    digest: str | None = None  # of a photograph that is decoded elsewhere

    @property
    def sha256(self) -> str | None:
        """Of the file's bytes; None where there is no photograph."""
        return self.digest if self.image is None else self.image.sha256
