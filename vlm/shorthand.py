"""Edits as one types them: ``dog=0``, ``cat=1``, ``cat=1.2raw``, ``cat*1.5``, ``cat+0.4``.

``TARGET OP NUMBER [raw] [@x0,y0,x1,y1]``: the target is a concept (spaces and hyphens allowed) or
``#`` and a feature index; ``=0`` ablates, ``=`` clamps, ``*`` scales, ``+`` adds; the number counts
p99 unless ``raw`` follows; ``@`` limits the edit to a region.
"""

import re
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from sparse_encoder.errors import SparsightError
from vlm.edits import parse_edit

OPS = {"=": "clamp", "*": "scale", "+": "add"}
FORMS = "dog=0, cat=1, cat=1.2raw, cat*1.5, cat+0.4, #812=1 or cat=1@0,0,0.5,1"
DOSE = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)\s*(?P<unit>raw|p99)?", re.I)


def parse_shorthand(text: str, *, param: str = "steer") -> dict[str, Any]:
    """The JSON shape of one edit, checked as far as it can be without a model.

    Raises SparsightError, with `param` as given, where the text is no edit.
    """
    head, at, region = text.partition("@")
    found = re.search(r"[=*+]", head)
    if found is None:
        raise _refusal(text, "it has no =, * or +", param)
    target, dose = head[: found.start()].strip(), head[found.end() :].strip()
    edit = {**_target(text, target, param), **_dose(text, found[0], dose, param)}
    if at:
        edit["region"] = _region(text, region, param)
    try:
        parse_edit(edit)
    except SparsightError as error:
        message = error.message.removeprefix("edit.")
        raise SparsightError(f"{short(text)}: {message}", param=param, code=error.code) from None
    return edit


def write_shorthand(edit: Mapping[str, Any]) -> str:
    """The JSON shape of an edit as a user would type it, for reading: numbers are rounded.

    What the shorthand has no sign for, `k` and `image`, follows in brackets.
    """
    target = f"#{edit['feature']}" if "feature" in edit else edit["concept"]
    sign = {"ablate": "=0", "clamp": "=", "scale": "*", "add": "+"}[edit["op"]]
    dose = f"{edit['value']:g}" if "value" in edit else ""
    unit = "raw" if edit.get("unit") == "raw" else ""
    region = "@" + ",".join(f"{x:g}" for x in edit["region"]) if "region" in edit else ""
    more = [f"{key} {edit[key]}" for key in ("k", "image") if key in edit]
    return f"{target}{sign}{dose}{unit}{region}" + (f" ({', '.join(more)})" if more else "")


def _target(text: str, target: str, param: str) -> dict[str, Any]:
    if not target:
        raise _refusal(text, "nothing stands before the operator", param)
    if not target.startswith("#"):
        return {"concept": target}
    if not re.fullmatch(r"#\s*\d{1,18}", target, re.ASCII):
        raise _refusal(text, f"{short(target)} is no feature index such as #812", param)
    return {"feature": int(target[1:])}


def _dose(text: str, operator: str, dose: str, param: str) -> dict[str, Any]:
    if not dose:
        raise _refusal(text, f"no number follows {operator}", param)
    found = DOSE.fullmatch(dose)
    if found is None:
        raise _refusal(text, f"{short(dose)} is no number, alone or with raw", param)
    value, unit = float(found["number"]), (found["unit"] or "").lower()
    if operator == "*" and unit:
        raise _refusal(text, f"a scale is a pure factor, without {unit}", param)
    if operator == "=" and value == 0:
        return {"op": "ablate"}
    edit = {"op": OPS[operator], "value": value}
    return {**edit, "unit": "raw"} if unit == "raw" else edit


def _region(text: str, region: str, param: str) -> list[float]:
    try:
        numbers = [float(part) for part in region.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise _refusal(text, f"{short(region)} is no region x0,y0,x1,y1", param)
    return numbers


def _refusal(text: str, why: str, param: str) -> SparsightError:
    return SparsightError(
        f"{short(text)} is no edit: {why}; write it like {FORMS}", param=param, code="bad_shorthand"
    )
