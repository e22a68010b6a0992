"""Lists of doses: what is no such list is refused here, for flags and requests alike."""

from collections.abc import Sequence

from sparse_encoder.errors import SparsightError
from vlm.edits import MAX_DOSE


def check_doses(
    doses: Sequence[float], *, zero: bool, most: int | None = None, param: str = "doses"
) -> None:
    """Raises SparsightError unless the doses rise, each at most 8 p99 and above 0.

    zero: 0 may be one of them. most: of how many.
    """
    if not doses or list(doses) != sorted(set(doses)):
        raise SparsightError(
            f"{param} are {list(doses)[:20]}; expected at least one, in rising order, none twice",
            param=param,
        )
    if most is not None and len(doses) > most:
        raise SparsightError(
            f"{len(doses)} doses, at most {most} are allowed, since they are answered as one batch "
            f"with the unsteered caption",
            param=param,
        )
    for i, dose in enumerate(doses):
        if not (0 < dose <= MAX_DOSE or (zero and dose == 0)):  # false for NaN
            least = "from 0 to" if zero else "above 0 and at most"
            raise SparsightError(
                f"{param}[{i}] is {dose:g} p99, expected {least} {MAX_DOSE:g}",
                param=f"{param}[{i}]",
            )
