"""The doses that a receipt says its clamps without a value were given."""

from collections.abc import Sequence
from dataclasses import replace

from vlm.apply import AppliedEdit
from vlm.edits import Edit


def with_claimed_doses(edits: Sequence[Edit], applied: Sequence[AppliedEdit]) -> tuple[Edit, ...]:
    """The edits, each clamp without a value at the dose (p99) of its first applied entry.

    So a receipt stays true when the model is calibrated again. An edit without an entry is left as
    it is.
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
