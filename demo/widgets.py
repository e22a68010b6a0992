"""The widgets of the page, from top to bottom. What they do is in wiring.py."""

from dataclasses import dataclass

import gradio as gr
from gradio.data_classes import ImageData

from demo.callbacks import N_SLOTS, N_STRONGEST, NO_SLOTS, SLIDER_MAX, STEP
from demo.example_photos import example_photos

PROMPT = "Describe the image in one sentence."
N_ACROSS = 4  # sliders in a row
INTRO = """# Sparsight
A photograph becomes a sparse code of named features. Change the code, and the caption changes."""
UNITS = """Activation in multiples of **p99**, the 99th percentile of that feature's non-zero
activations on the reference set; share of the squared norm of the global code. Pick a row to give it
a slider."""
EDITS = """## Edits
A slider sets its feature or concept to that many p99; 0 removes it. A feature's slider that is left
alone sends nothing. A recipe is a file of edits; it stays loaded until the edits are reset."""


@dataclass(frozen=True)
class Looking:
    """The photograph and what is in it."""

    model: gr.Markdown
    photo: gr.Image
    examples: gr.Dataset
    features: gr.State  # as the gateway sent them
    table: gr.Dataframe
    message: gr.HTML


@dataclass(frozen=True)
class Editing:
    """What is to be changed."""

    slots: gr.State  # callbacks.Slots, one a slider
    sliders: list[gr.Slider]
    concept: gr.Textbox
    shorthand: gr.Textbox
    sent: gr.Textbox
    reset: gr.Button
    recipe: gr.State  # the loaded recipe's content, or None
    load: gr.UploadButton
    again: gr.Checkbox
    name: gr.Textbox
    save: gr.Button
    saved: gr.Code


@dataclass(frozen=True)
class Answering:
    """Question and captions."""

    prompt: gr.Textbox
    streaming: gr.Checkbox
    go: gr.Button
    message: gr.HTML
    unsteered: gr.Textbox
    steered: gr.Textbox
    receipt: gr.JSON


def draw_looking() -> Looking:
    """Photograph and examples on the left, features on the right."""
    features = gr.State([])
    gr.Markdown(INTRO)
    model = gr.Markdown()
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            photo = gr.Image(
                label="Photograph",
                type="filepath",
                sources=["upload", "clipboard"],
                buttons=[],
                height=330,
            )
            # A subclass would be cleaner, but Gradio writes a .pyi file beside each.
            photo.preprocess = _uploaded  # type: ignore[method-assign]
            # gr.Examples would do the click itself, but forgets where the page is mounted.
            examples = gr.Dataset(
                components=[photo],
                samples=[[str(path)] for path in example_photos()],
                label="Examples",
                type="index",
            )
        with gr.Column(scale=6, min_width=360):
            table = gr.Dataframe(
                headers=["feature", "name", "activation", "share"],
                datatype="str",
                column_count=4,
                interactive=False,
                label=f"The {N_STRONGEST} strongest features",
                max_height=440,
            )
            gr.Markdown(UNITS)
    return Looking(model, photo, examples, features, table, gr.HTML(visible=False))


def draw_editing() -> Editing:
    """Sliders, which stay hidden until they have a target, and text boxes."""
    slots = gr.State(NO_SLOTS)
    with gr.Row():
        gr.Markdown(EDITS)
        reset = gr.Button("Reset edits", size="sm", scale=0, min_width=130)
    sliders: list[gr.Slider] = []
    for _ in range(N_SLOTS // N_ACROSS):
        with gr.Row():
            sliders += [
                gr.Slider(0, SLIDER_MAX, step=STEP, visible=False, buttons=[], min_width=220)
                for _ in range(N_ACROSS)
            ]
    with gr.Row():
        concept = gr.Textbox(
            label="Add a concept", placeholder="a word, then Enter", scale=2, max_lines=1
        )
        shorthand = gr.Textbox(
            label="Or type edits", placeholder="dog=0, cat=1, #812*1.5", scale=3, max_lines=1
        )
        sent = gr.Textbox(label="What will be sent", interactive=False, scale=3, max_lines=2)
    recipe = gr.State(None)
    with gr.Row(equal_height=True):
        load = gr.UploadButton(
            "Load a recipe", file_types=[".json"], type="binary", scale=1, min_width=150
        )
        again = gr.Checkbox(
            False, label="Of another model: resolve its concepts again", scale=2, min_width=250
        )
        name = gr.Textbox(label="Name of the recipe", placeholder="then save", scale=2, max_lines=1)
        save = gr.Button("Save as a recipe", scale=1, min_width=150)
    # Its download button makes the file in the browser, so that none is left on this machine.
    saved = gr.Code(
        label="The recipe's file", language="json", interactive=False, visible=False, max_lines=12
    )
    return Editing(
        slots, sliders, concept, shorthand, sent, reset, recipe, load, again, name, save, saved
    )


def draw_answering() -> Answering:
    """The prompt, the button, and both captions side by side."""
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(PROMPT, label="Prompt", scale=6, max_lines=2)
        streaming = gr.Checkbox(True, label="Word by word", scale=1, min_width=150)
        go = gr.Button("Caption", variant="primary", scale=2, min_width=130)
    message = gr.HTML(visible=False)
    with gr.Row():
        unsteered, steered = (
            gr.Textbox(label=label, lines=3, interactive=False, elem_classes="caption")
            for label in ("Unsteered caption", "Steered caption")
        )
    with gr.Accordion("Receipt of the steered caption", open=False):
        receipt = gr.JSON(show_label=False)
    return Answering(prompt, streaming, go, message, unsteered, steered, receipt)


def _uploaded(payload: ImageData | None) -> str | None:
    """The file as it was uploaded.

    Gradio would open it first, and what it cannot open would end in its words, with a path of this
    machine; the gateway reads the file itself and says what is wrong with it.
    """
    return None if payload is None else payload.path
