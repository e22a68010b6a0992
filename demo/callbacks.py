"""What the page does, as plain functions: no widget here, and no model.

Numbers on the page: an activation or dose counts p99, the 99th percentile of that feature's
non-zero activations on the reference set; a share is per cent of the squared norm of the global
code.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.client import Caption, DemoError, GatewayClient
from sparse_encoder.errors import SparsightError
from vlm.recipe import parse_recipe
from vlm.recipe_file import recipe_from_bytes, recipe_to_bytes
from vlm.shorthand import parse_shorthand, write_shorthand

N_STRONGEST = 12  # rows of the table
N_SLOTS = 8  # sliders
N_FILLED = 4  # sliders that a new photograph fills; the others wait for concepts and picked rows
SLIDER_MAX = 3.0  # p99; the shorthand box takes up to the gateway's limit
STEP = 0.05  # p99
CONCEPT_DOSE = 1.0  # p99, where a new concept starts
UNNAMED = "(no name)"


@dataclass(frozen=True)
class Slot:
    """One slider: its target as an edit writes it, and where it stood before anybody moved it."""

    target: dict[str, Any]  # {"feature": 812} or {"concept": "cat"}
    label: str  # with unit
    start: float  # p99, on the slider's steps
    maximum: float = SLIDER_MAX  # p99
    # A feature's slider shows what is there and is no edit until moved; a concept was asked for.
    always: bool = False

    def edit(self, value: float | None) -> dict[str, Any] | None:
        """The edit for the slider at `value` (p99), None where it was left alone."""
        value = self.start if value is None else value
        if not self.always and abs(value - self.start) < STEP / 2:
            return None
        if value == 0:
            return {**self.target, "op": "ablate"}
        return {**self.target, "op": "clamp", "value": round(value, 4)}


Slots = tuple[Slot | None, ...]
NO_SLOTS: Slots = (None,) * N_SLOTS


@dataclass(frozen=True)
class Loaded:
    """The recipe that was loaded, if any."""

    recipe: dict[str, Any] | None = None  # a recipe file's content
    again: bool = False  # resolved again, if it was made for another model


NO_RECIPE = Loaded()


@dataclass(frozen=True)
class Photo:
    """What the page shows of a photograph before any caption."""

    features: list[dict[str, Any]]  # the gateway's, strongest first
    slots: Slots
    error: str = ""

    @property
    def rows(self) -> list[list[str]]:
        """Feature, name, activation and share of each, as text with units."""
        return [feature_row(feature) for feature in self.features]


@dataclass(frozen=True)
class Result:
    """The two captions as far as they have come."""

    unsteered: str = ""
    steered: str = ""
    receipt: dict[str, Any] | None = None
    note: str = ""  # not a failure, but worth saying
    error: str = ""


def describe_model(client: GatewayClient) -> str:
    """One line about what is served, or why that is not known."""
    try:
        model = client.model()
    except DemoError as error:
        return error.message
    return f"{model.name}, {model.n_features:,} features, fingerprint {model.fingerprint[:12]}"


def look(client: GatewayClient, photo: str | None) -> Photo:
    """The strongest features of a photograph, and sliders for the first of them."""
    if photo is None:
        return Photo([], NO_SLOTS)
    try:
        features = client.activations(Path(photo), top=N_STRONGEST)
    except DemoError as error:
        return Photo([], NO_SLOTS, error=error.message)
    slots = [slot for slot in map(feature_slot, features) if slot is not None][:N_FILLED]
    return Photo(features, (*slots, *(None,) * (N_SLOTS - len(slots))))


def feature_row(feature: dict[str, Any]) -> list[str]:
    """The cells of one line of the table."""
    p99 = feature["p99"]
    return [
        f"#{feature['feature']}",
        feature["name"] or UNNAMED,
        "dead" if p99 is None else f"{p99:.2f} p99",
        f"{100 * feature['share']:.1f} %",
    ]


def feature_slot(feature: dict[str, Any]) -> Slot | None:
    """A slider at a feature's activation; None for a dead feature, whose dose has no unit."""
    p99 = feature["p99"]
    if p99 is None:
        return None
    name, index = feature["name"] or UNNAMED, feature["feature"]
    start = round(round(p99 / STEP) * STEP, 4)
    return Slot(
        {"feature": index},
        f"{name} #{index}, here {p99:.2f} p99",
        start,
        max(SLIDER_MAX, start),
    )


def concept_slot(text: str) -> Slot:
    """A slider for a concept in words."""
    concept = " ".join(text.split())
    return Slot({"concept": concept}, f"concept “{concept}”, p99", CONCEPT_DOSE, always=True)


def add_slot(slots: Slots, values: Sequence[float | None], new: Slot) -> tuple[Slots, int]:
    """`slots` with `new` in them, and where.

    It takes an empty slot, or the last one that nobody has moved. Raises DemoError where the target
    has a slider already, or all are in use.
    """
    for slot in slots:
        if slot is not None and slot.target == new.target:
            raise DemoError(f"there is a slider for {slot.label} already")
    empty = [i for i, slot in enumerate(slots) if slot is None]
    idle = [i for i, slot in enumerate(slots) if slot is not None and slot.edit(values[i]) is None]
    if not empty and not idle:
        raise DemoError(
            f"all {N_SLOTS} sliders are in use; write further edits into the text box, or reset"
        )
    at = empty[0] if empty else idle[-1]
    return (*slots[:at], new, *slots[at + 1 :]), at


def read_edits(
    slots: Slots, values: Sequence[float | None], shorthand: str | None
) -> list[dict[str, Any]]:
    """The edits of the moved sliders, then those of the text box. Raises SparsightError."""
    moved = [
        edit
        for slot, value in zip(slots, values, strict=True)
        if slot is not None and (edit := slot.edit(value)) is not None
    ]
    return [*moved, *map(parse_shorthand, split_shorthand(shorthand or ""))]


def split_shorthand(text: str) -> list[str]:
    """``dog=0, cat=1@0,0,0.5,1`` as its edits: a comma before a bare number is a region's."""
    out: list[str] = []
    for piece in re.split(r"[,;\n]", text):
        if out and "@" in out[-1] and re.fullmatch(r"\s*[\d.]+\s*", piece):
            out[-1] += f",{piece.strip()}"
        elif piece.strip():
            out.append(piece.strip())
    return out


def load_recipe(content: bytes) -> dict[str, Any]:
    """The recipe in an uploaded file. Raises SparsightError where it is none."""
    return recipe_from_bytes(content, "the file").to_json()


def save_recipe(
    client: GatewayClient,
    name: str,
    slots: Slots,
    values: Sequence[float | None],
    shorthand: str | None,
    loaded: Loaded,
) -> str:
    """The file of a recipe with all that would be sent. Raises SparsightError."""
    edits = read_edits(slots, values, shorthand)
    made = client.recipe(" ".join(name.split()), edits, loaded.recipe, loaded.again)
    return recipe_to_bytes(parse_recipe(made)).decode()


def preview(
    slots: Slots,
    values: Sequence[float | None],
    shorthand: str | None,
    recipe: dict[str, Any] | None = None,
) -> str:
    """What would be sent, in shorthand; or why it cannot be."""
    try:
        edits = read_edits(slots, values, shorthand)
    except SparsightError as error:
        return error.message
    own = ", ".join(map(write_shorthand, edits))
    if recipe is None:
        return own
    theirs = ", ".join(map(write_shorthand, recipe["edits"]))
    return f"{own}{'; ' if own else ''}recipe {recipe['name']}: {theirs}"


def describe(
    client: GatewayClient,
    photo: str | None,
    prompt: str,
    slots: Slots,
    values: Sequence[float | None],
    shorthand: str | None,
    streaming: bool,
    loaded: Loaded = NO_RECIPE,
) -> Iterator[Result]:
    """The unsteered caption, then the steered one with its receipt; growing where streamed."""
    if photo is None:
        yield Result(error="no photograph yet: upload one or pick an example")
        return
    unsteered = ""  # only once it is whole: half a caption beside an error looks like an answer
    try:
        edits = read_edits(slots, values, shorthand)
        caption = Caption("")
        for caption in _captions(client, photo, prompt, [], streaming, NO_RECIPE):
            yield Result(caption.text)
        unsteered = caption.text
        if not edits and loaded.recipe is None:
            yield Result(unsteered, note="no edits: move a slider, add a concept or type one")
            return
        for caption in _captions(client, photo, prompt, edits, streaming, loaded):
            yield Result(unsteered, caption.text, caption.receipt)
        warnings = (caption.receipt or {}).get("warnings", [])
        yield Result(unsteered, caption.text, caption.receipt, note="; ".join(warnings))
    except SparsightError as error:
        yield Result(unsteered, error=error.message)


def _captions(
    client: GatewayClient,
    photo: str,
    prompt: str,
    edits: list[dict[str, Any]],
    streaming: bool,
    loaded: Loaded,
) -> Iterator[Caption]:
    asked = Path(photo), prompt, edits, loaded.recipe, loaded.again
    if streaming:
        yield from client.stream(*asked)
    else:
        yield client.caption(*asked)
