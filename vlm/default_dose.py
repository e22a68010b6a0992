"""The dose of a clamp that names none: what calibration found to work."""

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError

HOW = "`sparsight steering calibrate` measures doses"


class UncalibratedError(SparsightError):
    """A clamp without a value, of a concept that has no effective dose."""

    code = "uncalibrated"


def default_dose(concept: str, k: int, atlas: FeatureAtlas, param: str) -> float:
    """The effective dose (p99) of a concept, as concepts.normalise writes it, at k features.

    Raises UncalibratedError, with this `param`, where there is none, and says why.
    """
    curve = None if atlas.doses is None else atlas.doses.of_concept(concept, k)
    if curve is not None and curve.effective is not None:
        return curve.effective
    if atlas.doses is None:
        why = f"this model has no calibrated doses; {HOW}"
    elif curve is None:
        of = [c for c in atlas.doses.curves if c.concept is not None]
        other = sorted({str(c.k) for c in of if c.concept == concept})
        at_k = f"only with k = {', '.join(other)}" if other else f"not among {len(of)} concepts"
        why = f"with k = {k} it is not calibrated ({at_k}); {HOW}"
    elif curve.safe_max is None:
        why = f"none of the doses tried ({_span(curve.doses)}) was found safe"
    else:
        best = max(curve.successes) / max(curve.n_images, 1)
        why = (
            f"no dose up to {curve.safe_max:g} p99, the largest safe one, did what is asked often "
            f"enough (at best in {100 * best:.0f} % of {curve.n_images} photographs)"
        )
    raise UncalibratedError(
        f"the clamp of {concept!r} has no value, and there is no dose to take: {why}; give a value "
        f"in p99, such as 1",
        param=param,
    )


def _span(doses: tuple[float, ...]) -> str:
    return f"{doses[0]:g} to {doses[-1]:g} p99" if doses else "none"
