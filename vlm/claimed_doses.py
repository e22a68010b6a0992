"""What a receipt has from a calibration, so that it stays true under another.

That is the doses of clamps without a value, and the warnings of doses.
"""

from collections.abc import Sequence
from dataclasses import replace

from sparse_encoder.atlas import FeatureAtlas
from vlm.apply import AppliedEdit
from vlm.dose_warnings import ABOVE_SAFE
from vlm.edits import Edit


def calibration_of(atlas: FeatureAtlas) -> str | None:
    """Digest of the atlas's doses; None where it has none."""
    return None if atlas.doses is None else atlas.doses.sha256


def without_dose_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    """The warnings that do not depend on a calibration."""
    return tuple(line for line in warnings if ABOVE_SAFE not in line)


def with_claimed_doses(edits: Sequence[Edit], applied: Sequence[AppliedEdit]) -> tuple[Edit, ...]:
    """The edits, each clamp without a value at the dose (p99) of its first applied entry.

    An edit without an entry is left as it is.
    """
    claimed: dict[int, float] = {}
    for done in applied:
        if done.dose_p99 is not None:
            claimed.setdefault(done.edit, done.dose_p99)
    return tuple(
        replace(edit, value=claimed[i])
        if edit.op == "clamp" and edit.value is None and i in claimed
        else edit
        for i, edit in enumerate(edits)
    )
