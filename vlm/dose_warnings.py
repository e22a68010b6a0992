"""A warning for each edit that goes above what calibration found safe."""

from collections.abc import Sequence

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DoseCurve, Doses
from vlm.apply import AppliedEdit
from vlm.default_dose import curve_of
from vlm.edits import Edit

ABOVE_SAFE = "above the calibrated safe dose"  # in every such warning, and in no other
ROUNDING = 1e-6  # a dose in p99 comes back from raw units with a rounding error


def dose_warnings(
    applied: Sequence[AppliedEdit], edits: Sequence[Edit], atlas: FeatureAtlas
) -> tuple[str, ...]:
    """One line for each edit and image where a feature was raised above its edit's safe dose.

    An edit's curve is that of its concept (at its k), or of its feature; without one, no warning.
    """
    if atlas.doses is None:
        return ()
    worst: dict[tuple[int, int], float] = {}  # (edit, image) -> level, p99
    for done in applied:
        p99 = float(atlas.p99[done.feature])
        if done.after > done.before and p99 > 0:
            place = done.edit, done.image
            worst[place] = max(worst.get(place, 0.0), done.after / p99)
    out = []
    for (edit, image), level in worst.items():
        curve = curve_of(edits[edit], atlas.doses)
        if curve is not None and level > (curve.safe_max or 0.0) * (1 + ROUNDING):
            out.append(f"edit {edit} on image {image}: {_above(curve, level, atlas.doses)}")
    return tuple(out)


def _above(curve: DoseCurve, level: float, doses: Doses) -> str:
    bar = doses.settings.get("corruption")
    found = "none was found" if curve.safe_max is None else f"{curve.safe_max:g} p99"
    least = "" if bar is None else f", above which more than {100 * bar:g} % may be corrupt"
    return (
        f"{curve.label} goes to {level:.3g} p99, {ABOVE_SAFE} ({found}; {curve.n_images} "
        f"photographs a dose{least})"
    )
