"""The receipt of a steered answer: enough to rebuild its codes and to see what every edit did.

JSON, version 1: ``fingerprint`` of the model, ``images`` (sha256 of the bytes of each), the
``steering`` as it was asked for, ``edits`` (one a feature and image, with doses and activations of
the global code), ``reach`` (the rule of reach.py), ``norms`` of the global codes, ``warnings``, and
``codes_sha256`` of the codes and what was changed in them; ``removal``, where something was ablated and
the model's projector takes more off for that than zeros (`ProjectorConfig`); ``recipes``, where there were
any, with the edits that each brought; ``calibration``, where the model had one, the digest of its doses. Floats are written in
full, so equal means equal to the bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, get_args

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.apply import AppliedEdit
from vlm.changes import EditedCodes
from vlm.claimed_doses import calibration_of, with_claimed_doses, without_dose_warnings
from vlm.edits import Edit, Op, parse_edits
from vlm.reach import DEFAULT_REACH, Reach
from vlm.receipt_json import json_items, json_object, typed, wrong
from vlm.recipe import RecipeUse

VERSION = 1
KEYS = (
    "version", "fingerprint", "images", "steering", "edits", "reach", "norms", "warnings",
    "codes_sha256",
)  # fmt: skip
OPTIONAL_KEYS = ("removal", "recipes", "calibration")


@dataclass(frozen=True)
class Receipt:
    """What went in, what was done, what came out. `codes_sha256` is None without images."""

    fingerprint: str
    images: tuple[str, ...]  # sha256 of each image's bytes, in the order of the request
    edits: tuple[Edit, ...]  # as asked for
    applied: tuple[AppliedEdit, ...]  # as carried out
    norms: tuple[tuple[float, float], ...]  # L2 of each global code before and after, raw units
    codes_sha256: str | None
    reach: Reach = DEFAULT_REACH
    warnings: tuple[str, ...] = ()
    recipes: tuple[RecipeUse, ...] = ()  # names; nothing that the codes depend on
    calibration: str | None = None  # of the doses that gave default doses and warnings
    removal: float = 0.0  # of the projector, where something was ablated

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the module's docstring."""
        recipes = {"recipes": [use.to_json() for use in self.recipes]} if self.recipes else {}
        return {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "images": [{"sha256": digest} for digest in self.images],
            "steering": {"edits": [edit.to_json() for edit in self.edits]},
            "edits": [_applied_to_json(done) for done in self.applied],
            "reach": self.reach,
            "norms": [{"before": before, "after": after} for before, after in self.norms],
            "warnings": list(self.warnings),
            "codes_sha256": self.codes_sha256,
            **({"removal": self.removal} if self.removal else {}),
            **recipes,
            **({} if self.calibration is None else {"calibration": self.calibration}),
        }

    @classmethod
    def from_json(cls, data: object) -> "Receipt":
        """The receipt that to_json gave. Raises SparsightError, `param` the key, for any other."""
        top = json_object(data, KEYS, "receipt", optional=OPTIONAL_KEYS)
        if top["version"] != VERSION:
            raise SparsightError(
                f"receipt.version is {top['version']!r}, this program reads version {VERSION}",
                param="receipt.version",
            )
        images = tuple(
            typed(json_object(item, ("sha256",), at)["sha256"], str, f"{at}.sha256")
            for at, item in json_items(top["images"], "receipt.images")
        )
        rule: Reach = top["reach"]
        if rule not in get_args(Reach):
            raise wrong("receipt.reach", f"one of {', '.join(get_args(Reach))}")
        digest, calibration = top["codes_sha256"], top.get("calibration")
        edits = parse_edits(
            top["steering"],
            n_images=len(images),
            n_features=2**31,  # the model's own count is checked when the codes are rebuilt
            param="receipt.steering",
        )
        return cls(
            fingerprint=typed(top["fingerprint"], str, "receipt.fingerprint"),
            images=images,
            edits=edits,
            applied=tuple(
                _applied_from_json(item, at)
                for at, item in json_items(top["edits"], "receipt.edits")
            ),
            norms=tuple(_norms(item, at) for at, item in json_items(top["norms"], "receipt.norms")),
            codes_sha256=None if digest is None else typed(digest, str, "receipt.codes_sha256"),
            reach=rule,
            warnings=tuple(
                typed(item, str, at) for at, item in json_items(top["warnings"], "receipt.warnings")
            ),
            recipes=tuple(
                _use(item, len(edits), at)
                for at, item in json_items(top.get("recipes", []), "receipt.recipes")
            ),
            calibration=(
                None if calibration is None else typed(calibration, str, "receipt.calibration")
            ),
            removal=typed(top.get("removal", 0.0), float, "receipt.removal"),
        )


def make_receipt(
    *,
    fingerprint: str,
    images: Sequence[str],
    edits: Sequence[Edit],
    applied: Sequence[AppliedEdit],
    codes: EditedCodes | None,
    warnings: Sequence[str] = (),
    reach: Reach = DEFAULT_REACH,
    recipes: Sequence[RecipeUse] = (),
    calibration: str | None = None,
    removal: float = 0.0,
) -> Receipt:
    """The receipt of one request; `images` are sha256 digests, codes are None without images.

    removal: of the model's projector.
    """
    return Receipt(
        fingerprint=fingerprint,
        images=tuple(images),
        edits=tuple(edits),
        applied=tuple(applied),
        norms=() if codes is None else tuple(codes.global_norms()),
        codes_sha256=None if codes is None else codes.sha256(),
        reach=reach,
        warnings=tuple(warnings),
        recipes=tuple(recipes),
        calibration=calibration,
        removal=removal if any(done.op == "ablate" for done in applied) else 0.0,
    )


class Steered(Protocol):
    """Edited codes and what was done."""

    @property
    def edited(self) -> EditedCodes: ...
    @property
    def applied(self) -> Sequence[AppliedEdit]: ...
    @property
    def warnings(self) -> Sequence[str]: ...


class Steering(Protocol):
    """What verify needs of the pipeline."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def atlas(self) -> FeatureAtlas: ...
    @property
    def removal(self) -> float: ...
    def encode(self, images: Sequence[DecodedImage]) -> Codes: ...
    def steer(self, codes: Codes, edits: Sequence[Edit]) -> Steered: ...


def verify_receipt(
    receipt: object, images: Sequence[DecodedImage], pipeline: Steering
) -> list[str]:
    """Rebuilds the codes and says in words where the receipt differs; empty = equal.

    Under another calibration the doses of clamps without a value are read from the receipt.
    Raises SparsightError where `receipt` is none.
    """
    claimed = Receipt.from_json(receipt)
    if claimed.fingerprint != pipeline.fingerprint:
        return [_differs("fingerprint", claimed.fingerprint, pipeline.fingerprint)]
    digests = [image.sha256 for image in images]
    if len(digests) != len(claimed.images):
        return [f"images: the receipt has {len(claimed.images)}, {len(digests)} given"]
    pairs = enumerate(zip(claimed.images, digests, strict=True))
    if other := [_differs(f"images[{i}].sha256", a, b) for i, (a, b) in pairs if a != b]:
        return other
    codes = pipeline.encode(images) if images else None
    recalibrated = claimed.calibration != calibration_of(pipeline.atlas)
    edits = with_claimed_doses(claimed.edits, claimed.applied) if recalibrated else claimed.edits
    try:
        steered = pipeline.steer(codes, edits) if codes is not None else None
    except SparsightError as error:
        return [f"steering: this model refuses the receipt's edits: {error.message}"]
    rebuilt = make_receipt(
        fingerprint=pipeline.fingerprint,
        images=digests,
        edits=claimed.edits,
        applied=steered.applied if steered else (),
        codes=steered.edited if steered else None,
        warnings=steered.warnings if steered else (),
        recipes=claimed.recipes,
        calibration=claimed.calibration,
        removal=pipeline.removal,
    )
    if recalibrated:  # its warnings of doses came from other curves
        claimed = replace(claimed, warnings=without_dose_warnings(claimed.warnings))
        rebuilt = replace(rebuilt, warnings=without_dose_warnings(rebuilt.warnings))
    return _differences("", claimed.to_json(), rebuilt.to_json())


def _differences(at: str, claimed: object, rebuilt: object) -> list[str]:
    """One line for each place where two JSON trees differ."""
    if isinstance(claimed, dict) and isinstance(rebuilt, dict):
        keys = [*claimed, *(key for key in rebuilt if key not in claimed)]
        pairs = [(f"{at}.{key}".lstrip("."), claimed.get(key), rebuilt.get(key)) for key in keys]
    elif isinstance(claimed, list) and isinstance(rebuilt, list) and len(claimed) == len(rebuilt):
        both = enumerate(zip(claimed, rebuilt, strict=True))
        pairs = [(f"{at}[{i}]", one, other) for i, (one, other) in both]
    else:
        return [] if claimed == rebuilt else [_differs(at, claimed, rebuilt)]
    return [line for place, one, other in pairs for line in _differences(place, one, other)]


def _differs(at: str, claimed: object, rebuilt: object) -> str:
    if isinstance(claimed, list) and isinstance(rebuilt, list):
        return f"{at}: the receipt has {len(claimed)} entries, rebuilt {len(rebuilt)}"
    return f"{at}: the receipt says {claimed!r}, rebuilt {rebuilt!r}"


def _applied_to_json(done: AppliedEdit) -> dict[str, Any]:
    dose = {"raw": done.dose_raw, "p99": done.dose_p99}
    if done.factor is not None:
        dose["factor"] = done.factor
    return {
        "edit": done.edit,
        "image": done.image,
        "feature": done.feature,
        "name": done.name,
        "op": done.op,
        "dose": dose,
        "before": done.before,
        "after": done.after,
        "cells_changed": done.cells_changed,
    }


def _applied_from_json(item: object, at: str) -> AppliedEdit:
    keys = (
        "edit", "image", "feature", "name", "op", "dose", "before", "after", "cells_changed",
    )  # fmt: skip
    data = json_object(item, keys, at)
    dose = json_object(data["dose"], ("raw", "p99"), f"{at}.dose", optional=("factor",))
    if data["op"] not in get_args(Op):
        raise wrong(f"{at}.op", f"one of {', '.join(get_args(Op))}")
    whole = {
        key: typed(data[key], int, f"{at}.{key}")
        for key in ("edit", "image", "feature", "cells_changed")
    }
    return AppliedEdit(
        **whole,
        name=typed(data["name"], str, f"{at}.name"),
        op=data["op"],
        dose_raw=_dose(dose["raw"], f"{at}.dose.raw"),
        dose_p99=_dose(dose["p99"], f"{at}.dose.p99"),
        factor=_dose(dose.get("factor"), f"{at}.dose.factor"),
        before=typed(data["before"], float, f"{at}.before"),
        after=typed(data["after"], float, f"{at}.after"),
    )


def _use(item: object, n_edits: int, at: str) -> RecipeUse:
    data = json_object(item, ("name", "description", "fingerprint", "edits"), at)
    texts = {
        key: typed(data[key], str, f"{at}.{key}") for key in ("name", "description", "fingerprint")
    }
    edits = tuple(typed(i, int, place) for place, i in json_items(data["edits"], f"{at}.edits"))
    if any(not 0 <= i < n_edits for i in edits):
        raise wrong(f"{at}.edits", f"a list of indices into the receipt's {n_edits} edits")
    return RecipeUse(**texts, edits=edits)


def _dose(item: object, at: str) -> float | None:
    return None if item is None else typed(item, float, at)


def _norms(item: object, at: str) -> tuple[float, float]:
    data = json_object(item, ("before", "after"), at)
    before, after = (typed(data[key], float, f"{at}.{key}") for key in ("before", "after"))
    return before, after
