"""What a sink says when the disk is full."""

from collections.abc import Iterator
from contextlib import contextmanager

from serving.batch.journal import FULL
from sparse_encoder.errors import SparsightError

# Of files on their way. A fixed one: the journal lets one run at a time write, and the next writes
# over what a killed one left.
MARK = "sparsight-part"


@contextmanager
def full_disk_stops(what: str) -> Iterator[None]:
    """Turns a full disk into words; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise SparsightError(
            f"{what} cannot be written ({error.strerror}); what stands in --out is safe: make room "
            "and run the same command again",
            param="out",
            code="disk_full",
        ) from error
