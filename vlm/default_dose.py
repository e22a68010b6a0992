"""The dose of a clamp that names none: what calibration found to work."""

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DoseCurve, Doses
from sparse_encoder.errors import SparsightError
from vlm.edits import DEFAULT_K, Edit
from vlm.known_concepts import normalise

HOW = "`sparsight steering calibrate` measures doses"


class UncalibratedError(SparsightError):
    """A clamp without a value, of a concept or feature that has no effective dose."""

    code = "uncalibrated"


def curve_of(edit: Edit, doses: Doses | None) -> DoseCurve | None:
    """The curve of an edit's concept, at its k, or of its feature; None where there is none."""
    if doses is None:
        return None
    if edit.concept is not None:
        return doses.of_concept(normalise(edit.concept), edit.k or DEFAULT_K)
    return None if edit.feature is None else doses.of_feature(edit.feature)


def default_dose(edit: Edit, atlas: FeatureAtlas, param: str) -> float:
    """The effective dose (p99) of an edit's concept or feature.

    Raises UncalibratedError, with this `param`, where there is none, and says why.
    """
    curve = curve_of(edit, atlas.doses)
    if curve is not None and curve.effective is not None:
        return curve.effective
    if atlas.doses is None:
        why = f"this model has no calibrated doses; {HOW}"
    elif curve is None:
        why = f"{_not_calibrated(edit, atlas.doses)}; {HOW}"
    elif curve.safe_max is None:
        why = f"none of the doses tried ({_span(curve.doses)}) was found safe"
    else:
        best = max(curve.successes) / max(curve.n_images, 1)
        why = (
            f"no dose up to {curve.safe_max:g} p99, the largest safe one, did what is asked often "
            f"enough (at best in {100 * best:.0f} % of {curve.n_images} photographs)"
        )
    what = f"feature {edit.feature}" if edit.concept is None else repr(normalise(edit.concept))
    raise UncalibratedError(
        f"the clamp of {what} has no value, and there is no dose to take: {why}; give a value "
        f"in p99, such as 1",
        param=param,
    )


def _not_calibrated(edit: Edit, doses: Doses) -> str:
    if edit.concept is None:
        n = sum(curve.feature is not None for curve in doses.curves)
        return f"it is not among {n} calibrated features"
    of = [curve for curve in doses.curves if curve.concept is not None]
    other = sorted({str(curve.k) for curve in of if curve.concept == normalise(edit.concept)})
    at_k = f"only with k = {', '.join(other)}" if other else f"not among {len(of)} concepts"
    return f"with k = {edit.k or DEFAULT_K} it is not calibrated ({at_k})"


def _span(doses: tuple[float, ...]) -> str:
    return f"{doses[0]:g} to {doses[-1]:g} p99" if doses else "none"
