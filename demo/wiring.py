"""Which widget calls what: inputs and outputs in Gradio's order, around the plain callbacks."""

import html
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from demo.callbacks import (
    N_SLOTS,
    Loaded,
    Slot,
    Slots,
    add_slot,
    concept_slot,
    describe,
    describe_model,
    feature_slot,
    load_recipe,
    look,
    preview,
    save_recipe,
)
from demo.client import DemoError, GatewayClient
from demo.example_photos import example_photos
from demo.widgets import Answering, Editing, Looking
from sparse_encoder.errors import SparsightError

Recipe = dict[str, Any] | None  # a recipe file's content
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def connect(
    page: gr.Blocks,
    client: GatewayClient,
    looking: Looking,
    editing: Editing,
    answering: Answering,
) -> None:
    """Connects all widgets of the page with the gateway behind `client`."""
    page.load(partial(describe_model, client), None, looking.model, **QUIET)
    looking.examples.click(_example, looking.examples, looking.photo, **QUIET)
    _connect_photo(client, looking, editing, answering)
    _connect_edits(looking, editing, answering)
    _connect_recipes(client, editing, answering)
    gr.on(
        [answering.go.click, answering.prompt.submit, editing.shorthand.submit],
        partial(_describe, client),
        [looking.photo, answering.prompt, answering.streaming, *_edits(editing)],
        [answering.message, answering.unsteered, answering.steered, answering.receipt],
        show_progress="minimal",
        show_progress_on=[answering.unsteered, answering.steered],
        concurrency_limit=8,  # the gateway has its own limit, and says so
        api_visibility="private",
    )


def _connect_photo(
    client: GatewayClient, looking: Looking, editing: Editing, answering: Answering
) -> None:
    shown = [
        *(looking.features, looking.table, looking.message),
        *(answering.message, answering.unsteered, answering.steered, answering.receipt),
        *(editing.shorthand, editing.sent, editing.slots, *editing.sliders),
    ]
    how: dict[str, Any] = {
        "show_progress": "minimal",
        "show_progress_on": looking.table,
        "api_visibility": "private",
    }
    looking.photo.change(
        partial(_show_photo, client), [looking.photo, editing.recipe], shown, **how
    )
    editing.reset.click(
        partial(_reset, client), looking.photo, [editing.recipe, editing.saved, *shown], **how
    )


def _connect_recipes(client: GatewayClient, editing: Editing, answering: Answering) -> None:
    editing.load.upload(
        _load,
        [editing.load, *_edits(editing)],
        [answering.message, editing.recipe, editing.sent],
        **QUIET,
    )
    gr.on(
        [editing.save.click, editing.name.submit],
        partial(_save, client),
        [editing.name, *_edits(editing)],
        [answering.message, editing.saved],
        **QUIET,
    )


def _connect_edits(looking: Looking, editing: Editing, answering: Answering) -> None:
    shown = [answering.message, editing.sent, editing.slots, *editing.sliders]
    editing.concept.submit(
        _add_concept, [editing.concept, *_edits(editing)], [editing.concept, *shown], **QUIET
    )
    looking.table.select(_add_row, [looking.features, *_edits(editing)], shown, **QUIET)
    gr.on(
        # Not .input: a pasted text does not fire it. What we draw ourselves fires .change too,
        # which does no harm: of a burst only the last is answered.
        [editing.shorthand.change, *(slider.change for slider in editing.sliders)],
        _preview,
        _edits(editing),
        editing.sent,
        trigger_mode="always_last",
        **QUIET,
    )


def _edits(editing: Editing) -> list[Any]:
    """The inputs that edits are read from, in the order in which all handlers take them."""
    first = (editing.recipe, editing.again, editing.slots, editing.shorthand)
    return [*first, *editing.sliders]


def _example(index: int) -> str:
    return str(example_photos()[index])


def _reset(client: GatewayClient, photo: str | None) -> list[Any]:
    """The same photograph without edits and recipe."""
    return [None, gr.Code(visible=False), *_show_photo(client, photo, None)]


def _load(
    content: bytes,
    _recipe: Recipe,
    _again: bool,
    slots: Slots,
    shorthand: str,
    *values: float | None,
) -> list[Any]:
    try:
        loaded = load_recipe(content)
    except SparsightError as error:
        return [message(error=error.message), gr.skip(), gr.skip()]
    return [message(), loaded, preview(slots, values, shorthand, loaded)]


def _save(
    client: GatewayClient,
    name: str,
    recipe: Recipe,
    again: bool,
    slots: Slots,
    shorthand: str,
    *values: float | None,
) -> list[Any]:
    try:
        file = save_recipe(client, name, slots, values, shorthand, Loaded(recipe, again))
    except SparsightError as error:
        return [message(error=error.message), gr.Code(visible=False)]
    return [message(), gr.Code(file, visible=True)]


def _show_photo(client: GatewayClient, photo: str | None, recipe: Recipe) -> list[Any]:
    """Everything anew for another photograph, but for the recipe."""
    found = look(client, photo)
    error = message(error=found.error)
    answers = [message(), "", "", None]
    sent = preview(found.slots, [None] * N_SLOTS, "", recipe)
    return [found.features, found.rows, error, *answers, "", sent, found.slots, *_draw(found.slots)]


def _add_concept(
    text: str,
    recipe: Recipe,
    _again: bool,
    slots: Slots,
    shorthand: str,
    *values: float | None,
) -> list[Any]:
    if not text.strip():
        return [gr.skip() for _ in range(4 + N_SLOTS)]
    return ["", *_add(concept_slot(text), slots, shorthand, values, recipe)]


def _add_row(
    event: gr.SelectData,
    features: list[dict[str, Any]],
    recipe: Recipe,
    _again: bool,
    slots: Slots,
    shorthand: str,
    *values: float | None,
) -> list[Any]:
    row = event.index[0]
    new = feature_slot(features[row]) if row < len(features) else None
    if new is None:  # a dead feature, or the table has changed since
        return [gr.skip() for _ in range(3 + N_SLOTS)]
    return _add(new, slots, shorthand, values, recipe)


def _add(
    new: Slot,
    slots: Slots,
    shorthand: str,
    values: tuple[float | None, ...],
    recipe: Recipe,
) -> list[Any]:
    """Message, preview, slots and sliders with one more slider; only that one is redrawn."""
    try:
        grown, at = add_slot(slots, values, new)
    except DemoError as error:
        return [message(error=error.message), *(gr.skip() for _ in range(2 + N_SLOTS))]
    now = [new.start if i == at else value for i, value in enumerate(values)]
    drawn = [slider if i == at else gr.skip() for i, slider in enumerate(_draw(grown))]
    return [message(), preview(grown, now, shorthand, recipe), grown, *drawn]


def _preview(
    recipe: Recipe, _again: bool, slots: Slots, shorthand: str, *values: float | None
) -> str:
    return preview(slots, values, shorthand, recipe)


def _describe(
    client: GatewayClient,
    photo: str | None,
    prompt: str,
    streaming: bool,
    recipe: Recipe,
    again: bool,
    slots: Slots,
    shorthand: str,
    *values: float | None,
) -> Iterator[list[Any]]:
    loaded = Loaded(recipe, again)
    for result in describe(client, photo, prompt, slots, values, shorthand, streaming, loaded):
        said = message(error=result.error, note=result.note)
        yield [said, result.unsteered, result.steered, result.receipt]


def _draw(slots: Slots) -> list[gr.Slider]:
    """Each slider at its start, or hidden where it has no target."""
    return [
        gr.Slider(visible=False, value=0)
        if slot is None
        else gr.Slider(visible=True, label=slot.label, value=slot.start, maximum=slot.maximum)
        for slot in slots
    ]


def message(*, error: str = "", note: str = "") -> gr.HTML:
    """A box in the page, hidden without words; what others wrote is shown as text, never as HTML."""
    kind = "error" if error else "note"
    text = html.escape(error or note)
    return gr.HTML(f'<div class="message {kind}" role="status">{text}</div>', visible=bool(text))
