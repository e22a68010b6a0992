"""What the page does with photographs, sliders and typed edits, without a widget."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.callbacks import (
    N_FILLED,
    N_SLOTS,
    NO_SLOTS,
    STEP,
    Loaded,
    Result,
    Slot,
    Slots,
    add_slot,
    concept_slot,
    describe,
    describe_model,
    feature_row,
    feature_slot,
    load_recipe,
    look,
    preview,
    read_edits,
    save_recipe,
    split_shorthand,
)
from demo.client import DemoError, GatewayClient
from sparse_encoder.errors import SparsightError
from vlm.shorthand import parse_shorthand, write_shorthand

UNTOUCHED: list[float | None] = [None] * N_SLOTS


def slots_of(*slots: Slot) -> Slots:
    return (*slots, *(None,) * (N_SLOTS - len(slots)))


def values_of(*values: float) -> list[float | None]:
    return [*values, *UNTOUCHED[len(values) :]]


def test_a_photograph_shows_its_strongest_features_with_units(
    client: GatewayClient, photo: Path
) -> None:
    found = look(client, str(photo))
    assert found.error == ""
    assert found.rows == [["#1", "cat", "2.00 p99", "64.0 %"], ["#0", "dog", "1.50 p99", "36.0 %"]]


def test_its_first_features_get_sliders_that_stand_where_the_features_are(
    client: GatewayClient, photo: Path
) -> None:
    slots = look(client, str(photo)).slots
    assert len(slots) == N_SLOTS
    assert [slot.start for slot in slots if slot] == [2.0, 1.5]
    assert slots[0] is not None and "cat" in slots[0].label and "p99" in slots[0].label
    assert slots[2:] == (None,) * (N_SLOTS - 2)


def test_a_page_opened_on_no_photograph_is_empty_and_no_error(client: GatewayClient) -> None:
    found = look(client, None)
    assert (found.rows, found.slots, found.error) == ([], NO_SLOTS, "")


def test_a_file_that_is_no_photograph_shows_the_message_of_the_gateway(
    client: GatewayClient, no_photo: Path
) -> None:
    found = look(client, str(no_photo))
    assert "cannot be read" in found.error and found.rows == []


def test_the_model_is_described_or_its_absence_explained(
    client: GatewayClient, nowhere: GatewayClient
) -> None:
    assert describe_model(client) == "fake, 8 features, fingerprint ffffffffffff"
    assert "sparsight serve" in describe_model(nowhere)


def test_a_dead_feature_and_one_without_a_name_are_called_so(feature: Any) -> None:
    assert feature_row(feature(7, "", None)) == ["#7", "(no name)", "dead", "25.0 %"]
    assert feature_slot(feature(7, "", None)) is None


def test_more_features_than_sliders_fill_only_the_first(
    feature: Any, monkeypatch: pytest.MonkeyPatch, client: GatewayClient, photo: Path
) -> None:
    monkeypatch.setattr(
        client, "activations", lambda *_, **__: [feature(3, p99=None), *map(feature, range(12))]
    )
    slots = look(client, str(photo)).slots
    assert [slot.target["feature"] for slot in slots if slot] == list(range(N_FILLED))


@given(p99=st.floats(0, 20))
def test_a_slider_that_nobody_moved_sends_no_edit(p99: float) -> None:
    slot = feature_slot({"feature": 3, "name": "cat", "activation": 1.0, "p99": p99, "share": 0.1})
    assert slot is not None and slot.start <= slot.maximum
    assert abs(slot.start - p99) <= STEP / 2 + 1e-3
    assert slot.edit(None) is None and slot.edit(slot.start) is None
    moved = slot.start + STEP
    assert slot.edit(moved) == {"feature": 3, "op": "clamp", "value": round(moved, 4)}


@pytest.mark.parametrize(
    ("value", "edit"),
    [
        (0, {"feature": 3, "op": "ablate"}),
        (0.5, {"feature": 3, "op": "clamp", "value": 0.5}),
        (1.0, None),
    ],
)
def test_a_moved_slider_clamps_and_zero_removes(
    feature: Any, value: float, edit: dict[str, Any] | None
) -> None:
    slot = feature_slot(feature(3, p99=1.01))
    assert slot is not None and slot.edit(value) == edit


def test_a_concept_is_an_edit_as_soon_as_it_is_added() -> None:
    slots, at = add_slot(NO_SLOTS, UNTOUCHED, concept_slot("  hot   dog "))
    assert at == 0
    assert read_edits(slots, UNTOUCHED, None) == [
        {"concept": "hot dog", "op": "clamp", "value": 1.0}
    ]
    assert read_edits(slots, values_of(0), "") == [{"concept": "hot dog", "op": "ablate"}]


def test_sliders_come_before_typed_edits_in_order(feature: Any) -> None:
    slots = slots_of(feature_slot(feature(3)), concept_slot("cat"))
    edits = read_edits(slots, values_of(0, 1.5), "dog=0, #5*1.5")
    assert list(map(write_shorthand, edits)) == ["#3=0", "cat=1.5", "dog=0", "#5*1.5"]


def test_a_new_slider_takes_an_empty_place_then_one_that_nobody_moved(feature: Any) -> None:
    first = slots_of(*(feature_slot(feature(i)) for i in range(N_SLOTS - 1)))
    full, at = add_slot(first, UNTOUCHED, concept_slot("cat"))
    assert at == N_SLOTS - 1 and full[:-1] == first[:-1]
    more, at = add_slot(full, UNTOUCHED, concept_slot("dog"))
    assert at == N_SLOTS - 2  # the last feature; the concept behind it is in use
    assert more[-1] == full[-1]


def test_sliders_in_use_are_never_taken(feature: Any) -> None:
    full = slots_of(*(feature_slot(feature(i)) for i in range(N_SLOTS)))
    moved: list[float | None] = [0.0] * N_SLOTS
    with pytest.raises(DemoError, match="in use"):
        add_slot(full, moved, concept_slot("cat"))
    assert add_slot(full, [0.0] * 3 + [1.0] + [0.0] * 4, concept_slot("cat"))[1] == 3


def test_a_target_gets_one_slider_only(feature: Any) -> None:
    slots = slots_of(feature_slot(feature(3)), concept_slot("cat"))
    for again in (feature_slot(feature(3, p99=0.2)), concept_slot(" cat ")):
        assert again is not None
        with pytest.raises(DemoError, match="already"):
            add_slot(slots, UNTOUCHED, again)


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        ("", []),
        (" , ;\n", []),
        ("dog=0", ["dog=0"]),
        ("dog=0, hot dog=1;#5*2\ncat+0.4", ["dog=0", "hot dog=1", "#5*2", "cat+0.4"]),
        ("cat=1@0,0,0.5,1, dog=0", ["cat=1@0,0,0.5,1", "dog=0"]),
        ("cat=1@0, 0, .5, 1", ["cat=1@0,0,.5,1"]),
        ("dog=0, 5", ["dog=0", "5"]),
    ],
)
def test_typed_edits_are_told_apart_and_regions_kept_whole(text: str, edits: list[str]) -> None:
    assert split_shorthand(text) == edits


@pytest.mark.parametrize("text", ["dog=0", "cat=1", "cat=1.2raw", "#812*1.5", "cat=1@0,0,0.5,1"])
def test_an_edit_is_written_as_it_is_typed(text: str) -> None:
    assert write_shorthand(parse_shorthand(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [("dog", "no =, "), ("dog=9", "8 p99"), ("dog=0, cat=-1", "negative"), ("#x=1", "index")],
)
def test_typed_edits_that_are_none_are_explained_before_anything_is_sent(
    text: str, words: str
) -> None:
    with pytest.raises(SparsightError, match=words):
        read_edits(NO_SLOTS, UNTOUCHED, text)
    assert words in preview(NO_SLOTS, UNTOUCHED, text)


def test_the_preview_is_what_will_be_sent(feature: Any) -> None:
    slots = slots_of(feature_slot(feature(3)), concept_slot("cat"))
    assert preview(slots, values_of(0.25), "dog=0") == "#3=0.25, cat=1, dog=0"
    assert preview(NO_SLOTS, UNTOUCHED, "") == ""


@pytest.mark.parametrize("streaming", [False, True])
def test_both_captions_come_side_by_side_with_the_receipt(
    client: GatewayClient, photo: Path, streaming: bool
) -> None:
    slots = slots_of(concept_slot("cat"))
    shown = list(describe(client, str(photo), "what?", slots, UNTOUCHED, "dog=0", streaming))
    last = shown[-1]
    assert last.unsteered == "1 photos, no edits, asked what?"
    assert last.steered == "1 photos, clamp cat, ablate dog, asked what?"
    assert last.receipt is not None and len(last.receipt["steering"]["edits"]) == 2
    assert last.error == ""
    assert (len(shown) > 8) == streaming


def test_without_edits_there_is_one_caption_and_a_hint(client: GatewayClient, photo: Path) -> None:
    *_, last = describe(client, str(photo), "what?", NO_SLOTS, UNTOUCHED, "", False)
    assert last == Result(
        "1 photos, no edits, asked what?",
        note="no edits: move a slider, add a concept or type one",
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_a_refused_edit_shows_the_message_of_the_gateway_and_no_steered_caption(
    client: GatewayClient, photo: Path, streaming: bool
) -> None:
    *_, last = describe(client, str(photo), "what?", NO_SLOTS, UNTOUCHED, "unicorn=0", streaming)
    assert last == Result("1 photos, no edits, asked what?", error="no concept named 'unicorn'")


def test_a_caption_that_breaks_off_is_not_left_standing(client: GatewayClient, photo: Path) -> None:
    shown = list(describe(client, str(photo), "crack", NO_SLOTS, UNTOUCHED, "", True))
    assert any(result.unsteered for result in shown) and shown[-1].unsteered == ""
    assert "req_" in shown[-1].error


@pytest.mark.parametrize(
    ("photo_path", "typed", "words"),
    [(None, "", "pick an example"), ("photo.jpg", "dog", "dog=0")],
)
def test_what_cannot_be_sent_is_said_without_a_request(
    nowhere: GatewayClient, photo_path: str | None, typed: str, words: str
) -> None:
    (only,) = describe(nowhere, photo_path, "what?", NO_SLOTS, UNTOUCHED, typed, True)
    assert words in only.error


def test_warnings_of_the_receipt_are_shown(
    client: GatewayClient, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = client.caption
    monkeypatch.setattr(
        client,
        "caption",
        lambda *args: _warned(plain(*args)) if args[2] else plain(*args),
    )
    *_, last = describe(client, str(photo), "what?", NO_SLOTS, UNTOUCHED, "dog=0", False)
    assert last.note == "edit 0 changed nothing"


def _warned(caption: Any) -> Any:
    caption.receipt["warnings"] = ["edit 0 changed nothing"]
    return caption


RECIPE = {
    "name": "no dog",
    "description": "",
    "fingerprint": "f" * 64,
    "edits": [{"op": "ablate", "feature": 0}],
}


def last(results: Any) -> Result:
    return list(results)[-1]


def test_what_is_saved_can_be_loaded_and_is_the_same_file(client: GatewayClient) -> None:
    file = save_recipe(client, " no  dog ", NO_SLOTS, UNTOUCHED, "#0=0", Loaded())
    assert load_recipe(file.encode()) == RECIPE
    more = save_recipe(client, "b", NO_SLOTS, UNTOUCHED, "#1*2", Loaded(RECIPE))
    assert [edit["feature"] for edit in load_recipe(more.encode())["edits"]] == [1, 0]


def test_a_loaded_recipe_is_shown_sent_and_named_in_the_receipt(
    client: GatewayClient, photo: Path
) -> None:
    assert preview(NO_SLOTS, UNTOUCHED, "cat=1", RECIPE) == "cat=1; recipe no dog: #0=0"
    for streaming in (True, False):
        found = last(
            describe(client, str(photo), "?", NO_SLOTS, UNTOUCHED, "", streaming, Loaded(RECIPE))
        )
        assert found.error == "" and found.steered.startswith("1 photos, ablate #0")
        assert found.receipt is not None
        assert [use["name"] for use in found.receipt["recipes"]] == ["no dog"]


def test_a_recipe_of_another_model_is_refused_in_the_gateways_words_or_resolved_again(
    client: GatewayClient, photo: Path
) -> None:
    other = {**RECIPE, "fingerprint": "e" * 64, "edits": [{"op": "ablate", "concept": "dog"}]}

    def steered(again: bool) -> Result:
        loaded = Loaded(other, again)
        return last(describe(client, str(photo), "?", NO_SLOTS, UNTOUCHED, "", False, loaded))

    assert "was made for model eeee" in steered(False).error and steered(False).steered == ""
    assert steered(True).error == "" and "ablate dog" in steered(True).steered


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"{}"])
def test_a_file_that_is_no_recipe_is_refused(content: bytes) -> None:
    with pytest.raises(SparsightError, match="the file"):
        load_recipe(content)


@pytest.mark.parametrize(
    ("name", "typed", "word"), [("", "#0=0", "name"), ("a", "", "edit"), ("a", "#9=0", "0..7")]
)
def test_what_cannot_be_saved_is_refused(
    client: GatewayClient, name: str, typed: str, word: str
) -> None:
    with pytest.raises(SparsightError, match=word):
        save_recipe(client, name, NO_SLOTS, UNTOUCHED, typed, Loaded())
