"""A steering edit as a user writes it, and every refusal that needs no model to be seen.

One shape (docs/reference/edits.md), the same in Python, JSON, recipes, flags and receipts. What
needs the model's atlas (unknown concepts, dead features, raw doses) is refused in concepts.py.
"""

import math
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from reprlib import repr as short  # a refusal never echoes a whole request back
from typing import Any, Literal, get_args

from sparse_encoder.errors import SparsightError

Op = Literal["ablate", "clamp", "scale", "add"]
Unit = Literal["p99", "raw"]
Region = tuple[float, float, float, float]

MAX_EDITS = 64
MAX_TOUCHED = 256  # features a request may touch
MAX_DOSE = 8.0  # multiples of p99, and the largest factor of a scale
DEFAULT_K = 16  # measured: 16 features turn a cat into a dog in 23 of 23 photographs, 4 in 10 of 23
MAX_K = 16
MAX_CONCEPT_LENGTH = 100  # characters


@dataclass(frozen=True)
class Edit:
    """One wish of a user. Raises SparsightError, with `param` the bare key, where it is no edit."""

    op: Op
    concept: str | None = None  # exactly one of concept and feature
    feature: int | None = None
    value: float | None = None  # dose of clamp and add, factor of scale; ablate has none;
    # a clamp of a calibrated concept or feature may leave it out
    unit: Unit = "p99"  # of clamp and add
    region: Region | None = None  # x0, y0, x1, y1 in [0, 1] of the upright image; None = all of it
    image: int | None = None  # index among the request's images; None = all of them
    k: int | None = None  # features a concept resolves to, 1..16; None = DEFAULT_K

    def __post_init__(self) -> None:
        if self.op not in get_args(Op):
            raise _refusal(
                "op", f"op is {short(self.op)}, expected one of {', '.join(get_args(Op))}"
            )
        _check_target(self)
        _check_value(self)
        if self.region is not None:
            _check_region(self.region)
        if self.image is not None and not _is_index(self.image):
            raise _refusal(
                "image", f"image is {short(self.image)}, expected a whole number from 0 up"
            )

    @property
    def removes(self) -> bool:
        """True where the edit sets its features to 0, whatever it is called."""
        return self.op == "ablate" or (self.op in ("clamp", "scale") and self.value == 0)

    @property
    def label(self) -> str:
        """The target as the shorthand writes it: ``dog`` or ``#812``."""
        return f"#{self.feature}" if self.concept is None else self.concept

    def to_json(self) -> dict[str, Any]:
        """The JSON shape, without the keys left at their defaults; parses back to an equal edit."""
        out = {key: item for key, item in asdict(self).items() if item is not None}
        if self.unit == "p99":
            del out["unit"]
        if self.region is not None:
            out["region"] = list(self.region)
        return out


KEYS = tuple(f.name for f in fields(Edit))


def parse_edit(item: object, param: str = "edit") -> Edit:
    """One edit from its JSON shape; the refusal's `param` is `param` plus the offending key."""
    if not isinstance(item, dict):
        raise SparsightError(f"{param} is {_kind(item)}, expected an object", param=param)
    refuse_unknown_keys(item, KEYS, param)
    if "op" not in item:
        raise SparsightError(
            f"{param} has no op; expected one of {', '.join(get_args(Op))}", param=f"{param}.op"
        )
    if "unit" in item and item["op"] in ("ablate", "scale"):
        raise SparsightError(
            f"{item['op']} takes no unit (scale is a pure factor); leave unit out of {param}",
            param=f"{param}.unit",
        )
    values = dict(item)
    if isinstance(values.get("region"), list):
        values["region"] = tuple(values["region"])
    try:
        return Edit(**values)
    except SparsightError as error:
        key = f"{param}.{error.param}"
        raise SparsightError(f"{key}: {error.message}", param=key, code=error.code) from None


def parse_edits(
    steering: object, *, n_images: int, n_features: int, param: str = "steering"
) -> tuple[Edit, ...]:
    """The edits of a request's ``steering`` object, in order; () where it is None or has none.

    The object may hold ``edits`` (list) and ``receipt`` (bool), nothing else. Raises
    SparsightError, with `param` such as ``steering.edits[2].value``, for all that can be told
    from the request and the sizes alone.
    """
    if steering is None:
        return ()
    if not isinstance(steering, dict):
        raise SparsightError(f"{param} is {_kind(steering)}, expected an object", param=param)
    refuse_unknown_keys(steering, ("edits", "receipt"), param)
    if not isinstance(steering.get("receipt", True), bool):
        key = f"{param}.receipt"
        raise SparsightError(
            f"{key} is {_kind(steering['receipt'])}, expected true or false", param=key
        )
    items = steering.get("edits", [])
    key = f"{param}.edits"
    if not isinstance(items, list):
        raise SparsightError(f"{key} is {_kind(items)}, expected a list of edits", param=key)
    refuse_too_many(len(items), key)
    edits = tuple(parse_edit(item, f"{key}[{i}]") for i, item in enumerate(items))
    if edits and n_images == 0:
        raise SparsightError(
            "steering without an image: edits change an image's code, and this request has no "
            "image; add one or leave the edits out",
            param=param,
            code="steering_without_image",
        )
    for i, edit in enumerate(edits):
        refuse_missing_image(edit, n_images, f"{key}[{i}]")
        refuse_missing_feature(edit, n_features, f"{key}[{i}]")
    return edits


def refuse_too_many(n_edits: int, param: str) -> None:
    """Raises SparsightError above 64 edits."""
    if n_edits > MAX_EDITS:
        raise SparsightError(f"{n_edits} edits, at most {MAX_EDITS} are allowed", param=param)


def refuse_missing_image(edit: Edit, n_images: int, param: str) -> None:
    """Raises SparsightError where the edit names an image that the request does not have."""
    if edit.image is not None and edit.image >= n_images:
        raise SparsightError(
            f"{param}.image is {edit.image}, but the request has {n_images} image(s), counted "
            f"from 0; name one of them or leave image out",
            param=f"{param}.image",
        )


def refuse_missing_feature(edit: Edit, n_features: int, param: str) -> None:
    """Raises SparsightError where the edit names a feature outside the model's."""
    if edit.feature is not None and not 0 <= edit.feature < n_features:
        raise SparsightError(
            f"{param}.feature is {edit.feature}, outside 0..{n_features - 1}",
            param=f"{param}.feature",
        )


def _check_target(edit: Edit) -> None:
    if (edit.concept is None) == (edit.feature is None):
        both = "both" if edit.concept is not None else "neither"
        raise _refusal(
            "concept", f"{both} of concept and feature given, expected exactly one of them"
        )
    if edit.concept is not None:
        if not isinstance(edit.concept, str) or not edit.concept.strip():
            raise _refusal(
                "concept", f"concept is {short(edit.concept)}, expected a word or phrase"
            )
        if len(edit.concept) > MAX_CONCEPT_LENGTH:
            n = len(edit.concept)
            raise _refusal(
                "concept", f"concept has {n} characters, at most {MAX_CONCEPT_LENGTH} are allowed"
            )
    elif not isinstance(edit.feature, int) or isinstance(edit.feature, bool):
        raise _refusal("feature", f"feature is {short(edit.feature)}, expected a whole number")
    if edit.k is None:
        return
    if edit.concept is None:
        raise _refusal("k", "k says how many features a concept becomes; a feature edit has none")
    if not _is_index(edit.k) or not 1 <= edit.k <= MAX_K:
        raise _refusal("k", f"k is {short(edit.k)}, expected a whole number from 1 to {MAX_K}")


def _check_value(edit: Edit) -> None:
    if edit.unit not in get_args(Unit):
        raise _refusal("unit", f"unit is {short(edit.unit)}, expected p99 or raw")
    if edit.op in ("ablate", "scale") and edit.unit != "p99":
        raise _refusal("unit", f"{edit.op} takes no unit (scale is a pure factor); leave it out")
    if edit.op == "ablate":
        if edit.value is not None:
            raise _refusal("value", "ablate takes no value, it always sets 0; leave value out")
        return
    if edit.value is None:
        if edit.op == "clamp" and edit.unit == "p99":
            return
        raise _refusal("value", f"{edit.op} of {edit.label} needs a value, none was given")
    value = _number(edit.value)
    if value is None:
        raise _refusal("value", f"value is {_kind(edit.value)}, expected a number")
    if not math.isfinite(value):
        raise _refusal("value", f"value is {value}, expected a finite number")
    if value < 0:
        raise _refusal(
            "value", f"value is {value:g}, negative; a code has none, to weaken use ablate or scale"
        )
    if value > MAX_DOSE and edit.op == "scale":
        raise _refusal("value", f"a scale factor of {value:g} is above the limit of {MAX_DOSE:g}")
    if value > MAX_DOSE and edit.unit == "p99":
        raise _refusal("value", f"a dose of {value:g} p99 is above the limit of {MAX_DOSE:g} p99")


def _check_region(region: object) -> None:
    if not isinstance(region, tuple) or len(region) != 4:
        raise _refusal("region", f"region is {short(region)}, expected four numbers x0, y0, x1, y1")
    numbers = [_number(item) for item in region]
    if any(number is None or not math.isfinite(number) for number in numbers):
        raise _refusal("region", f"region is {short(region)}, expected four finite numbers")
    x0, y0, x1, y1 = region
    if min(region) < 0 or max(region) > 1:
        raise _refusal(
            "region", f"region {list(region)} lies outside the image; fractions go from 0 to 1"
        )
    if x0 >= x1 or y0 >= y1:
        raise _refusal("region", f"region {list(region)} is empty; expected x0 < x1 and y0 < y1")


def _number(item: object) -> float | None:
    """A JSON number as float, infinite where a whole number is too large for one; else None."""
    if isinstance(item, bool) or not isinstance(item, int | float):
        return None
    try:
        return float(item)
    except OverflowError:
        return math.inf if item > 0 else -math.inf


def _is_index(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and item >= 0


def _kind(item: object) -> str:
    """How a JSON reader would call a value of the wrong type; never the whole value."""
    if item is None or isinstance(item, bool):
        return {None: "null", True: "true", False: "false"}[item]
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(item), f"a {type(item).__name__}")


def _refusal(key: str, message: str) -> SparsightError:
    return SparsightError(message, param=key)


def refuse_unknown_keys(item: dict[Any, Any], known: tuple[str, ...], param: str) -> None:
    """Raises SparsightError at the first key that is none of `known`, with the closest."""
    for key in item:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SparsightError(
                f"{param} has an unknown key {short(key)}{hint} (known: {', '.join(known)})",
                param=f"{param}.{key}",
                code="unknown_key",
            )
