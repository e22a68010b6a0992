"""The dose of a clamp that names none: what calibration found to work."""

from typing import NoReturn

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.doses import DoseCurve, Doses
from sparse_encoder.errors import SparsightError

HOW = "`sparsight steering calibrate` measures doses"
_NONE = f"this model has no calibrated doses; {HOW}"


class UncalibratedError(SparsightError):
    """A clamp without a value, of a concept or feature that has no effective dose."""

    code = "uncalibrated"


def default_dose(concept: str, k: int, atlas: FeatureAtlas, param: str) -> float:
    """The effective dose (p99) of a concept, as concepts.normalise writes it, at k features.

    Raises UncalibratedError, with this `param`, where there is none, and says why.
    """
    curve = None if atlas.doses is None else atlas.doses.of_concept(concept, k)
    if curve is None:
        return _refuse(repr(concept), _no_curve(atlas.doses, concept, k), param)
    return _effective(curve, repr(concept), param)


def feature_dose(feature: int, atlas: FeatureAtlas, param: str) -> float:
    """The effective dose (p99) of one feature; raises as `default_dose` does."""
    curve = None if atlas.doses is None else atlas.doses.of_feature(feature)
    if curve is not None:
        return _effective(curve, f"feature {feature}", param)
    if atlas.doses is None:
        return _refuse(f"feature {feature}", _NONE, param)
    n = sum(c.feature is not None for c in atlas.doses.curves)
    return _refuse(f"feature {feature}", f"it is not among {n} calibrated features; {HOW}", param)


def _effective(curve: DoseCurve, what: str, param: str) -> float:
    if curve.effective is not None:
        return curve.effective
    if curve.safe_max is None:
        return _refuse(
            what, f"none of the doses tried ({_span(curve.doses)}) was found safe", param
        )
    best = max(curve.successes) / max(curve.n_images, 1)
    why = (
        f"no dose up to {curve.safe_max:g} p99, the largest safe one, did what is asked often "
        f"enough (at best in {100 * best:.0f} % of {curve.n_images} photographs)"
    )
    return _refuse(what, why, param)


def _no_curve(doses: Doses | None, concept: str, k: int) -> str:
    if doses is None:
        return _NONE
    of = [c for c in doses.curves if c.concept is not None]
    other = sorted({str(c.k) for c in of if c.concept == concept})
    at_k = f"only with k = {', '.join(other)}" if other else f"not among {len(of)} concepts"
    return f"with k = {k} it is not calibrated ({at_k}); {HOW}"


def _refuse(what: str, why: str, param: str) -> NoReturn:
    raise UncalibratedError(
        f"the clamp of {what} has no value, and there is no dose to take: {why}; give a value "
        f"in p99, such as 1",
        param=param,
    )


def _span(doses: tuple[float, ...]) -> str:
    return f"{doses[0]:g} to {doses[-1]:g} p99" if doses else "none"
