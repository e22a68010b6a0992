"""Every structural refusal of a steering object, and the JSON round trip."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.errors import SparsightError
from vlm.edits import KEYS, Edit, parse_edit, parse_edits

DOG = {"concept": "dog", "op": "ablate"}
CLAMP = {"concept": "cat", "op": "clamp", "value": 1.0}

# (edit, a word of the message, offending key)
BAD_EDITS: list[tuple[Any, str, str]] = [
    ("dog=0", "expected an object", ""),
    ({**CLAMP, "does": 2}, "unknown key 'does'", ".does"),
    ({**CLAMP, "vlaue": 2}, "did you mean value", ".vlaue"),
    ({"concept": "dog"}, "has no op", ".op"),
    ({"concept": "dog", "op": "remove"}, "'remove'", ".op"),
    ({"concept": "dog", "op": ["ablate"]}, "op is", ".op"),
    ({"op": "ablate"}, "neither", ".concept"),
    ({"op": "ablate", "concept": "dog", "feature": 3}, "both", ".concept"),
    ({"op": "ablate", "concept": "  "}, "word or phrase", ".concept"),
    ({"op": "ablate", "concept": 7}, "word or phrase", ".concept"),
    ({"op": "ablate", "concept": "x" * 101}, "101 characters", ".concept"),
    ({"op": "ablate", "feature": "3"}, "whole number", ".feature"),
    ({"op": "ablate", "feature": 3.0}, "whole number", ".feature"),
    ({"op": "ablate", "feature": True}, "whole number", ".feature"),
    ({"op": "ablate", "feature": 12}, "outside 0..11", ".feature"),
    ({"op": "ablate", "feature": -1}, "outside 0..11", ".feature"),
    ({"op": "clamp", "feature": 3, "unit": "raw"}, "needs a value", ".value"),
    ({"op": "add", "feature": 3}, "needs a value", ".value"),
    ({"op": "clamp", "concept": "cat", "unit": "raw"}, "needs a value", ".value"),
    ({"op": "scale", "concept": "cat"}, "needs a value", ".value"),
    ({"op": "add", "concept": "cat"}, "needs a value", ".value"),
    ({**DOG, "value": 0}, "takes no value", ".value"),
    ({**CLAMP, "value": "1"}, "a string", ".value"),
    ({**CLAMP, "value": True}, "true", ".value"),
    ({**CLAMP, "value": float("nan")}, "nan", ".value"),
    ({**CLAMP, "value": float("inf")}, "finite", ".value"),
    ({**CLAMP, "value": 10**400}, "finite", ".value"),
    ({**CLAMP, "value": -0.5}, "negative", ".value"),
    ({**CLAMP, "op": "add", "value": -0.5}, "negative", ".value"),
    ({**CLAMP, "value": 8.01}, "above the limit of 8 p99", ".value"),
    ({**CLAMP, "op": "add", "value": 9}, "above the limit of 8 p99", ".value"),
    ({**CLAMP, "op": "scale", "value": 9}, "factor of 9 is above", ".value"),
    ({**CLAMP, "unit": "p95"}, "p99 or raw", ".unit"),
    ({**DOG, "unit": "p99"}, "no unit", ".unit"),
    ({**CLAMP, "op": "scale", "unit": "raw"}, "pure factor", ".unit"),
    ({**DOG, "region": "left"}, "four numbers", ".region"),
    ({**DOG, "region": [0, 0, 1]}, "four numbers", ".region"),
    ({**DOG, "region": [0, 0, 1, "1"]}, "four finite numbers", ".region"),
    ({**DOG, "region": [0, 0, 1, float("nan")]}, "four finite numbers", ".region"),
    ({**DOG, "region": [0.5, 0, 0.5, 1]}, "empty", ".region"),
    ({**DOG, "region": [0, 0.9, 1, 0.1]}, "empty", ".region"),
    ({**DOG, "region": [0, 0, 1.1, 1]}, "outside the image", ".region"),
    ({**DOG, "region": [-0.1, 0, 1, 1]}, "outside the image", ".region"),
    ({**DOG, "image": -1}, "whole number", ".image"),
    ({**DOG, "image": "0"}, "whole number", ".image"),
    ({**DOG, "image": 2}, "has 2 image(s)", ".image"),
    ({**DOG, "k": 0}, "1 to 16", ".k"),
    ({**DOG, "k": 17}, "1 to 16", ".k"),
    ({**DOG, "k": 2.0}, "1 to 16", ".k"),
    ({"op": "ablate", "feature": 3, "k": 2}, "feature edit has none", ".k"),
]

# (steering object, a word of the message, offending key)
BAD_STEERING: list[tuple[Any, str, str]] = [
    ([DOG], "expected an object", "steering"),
    ({"edit": [DOG]}, "did you mean edits", "steering.edit"),
    ({"edits": DOG}, "expected a list", "steering.edits"),
    ({"edits": None}, "null", "steering.edits"),
    ({"edits": [DOG], "receipt": 1}, "true or false", "steering.receipt"),
    ({"edits": [DOG] * 65}, "at most 64", "steering.edits"),
]


@pytest.mark.parametrize(("edit", "word", "key"), BAD_EDITS)
def test_a_bad_edit_is_refused_in_words_that_name_its_key(edit: Any, word: str, key: str) -> None:
    with pytest.raises(SparsightError) as caught:
        parse_edits({"edits": [DOG, edit]}, n_images=2, n_features=12)
    assert word in str(caught.value)
    assert caught.value.param == f"steering.edits[1]{key}"


@pytest.mark.parametrize(("steering", "word", "key"), BAD_STEERING)
def test_a_bad_steering_object_is_refused(steering: Any, word: str, key: str) -> None:
    with pytest.raises(SparsightError) as caught:
        parse_edits(steering, n_images=1, n_features=12)
    assert word in str(caught.value)
    assert caught.value.param == key


def test_steering_without_an_image_is_refused() -> None:
    with pytest.raises(SparsightError, match="without an image") as caught:
        parse_edits({"edits": [DOG]}, n_images=0, n_features=12)
    assert (caught.value.param, caught.value.code) == ("steering", "steering_without_image")


def test_a_refusal_does_not_echo_a_huge_value() -> None:
    with pytest.raises(SparsightError) as caught:
        parse_edit({"op": "x" * 100_000, "concept": "dog"})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("steering", [None, {}, {"edits": []}, {"receipt": True}])
def test_no_edits_need_no_image(steering: Any) -> None:
    assert parse_edits(steering, n_images=0, n_features=12) == ()


def test_the_example_of_the_design_parses() -> None:
    steering = {
        "edits": [
            {"concept": "dog", "op": "ablate"},
            {"concept": "cat", "op": "clamp", "value": 1.0},
            {"feature": 812, "op": "scale", "value": 1.5, "region": [0, 0, 0.5, 1]},
            {"feature": 44, "op": "add", "value": 0.4, "unit": "raw", "image": 1},
        ]
    }
    assert parse_edits(steering, n_images=2, n_features=4096) == (
        Edit("ablate", concept="dog"),
        Edit("clamp", concept="cat", value=1.0),
        Edit("scale", feature=812, value=1.5, region=(0, 0, 0.5, 1)),
        Edit("add", feature=44, value=0.4, unit="raw", image=1),
    )


def test_a_clamp_of_a_concept_may_leave_its_value_out() -> None:
    assert parse_edit({"concept": "cat", "op": "clamp"}).value is None


fraction = st.floats(0, 1)


@st.composite
def any_edit(draw: st.DrawFn) -> Edit:
    op = draw(st.sampled_from(["ablate", "clamp", "scale", "add"]))
    concept = draw(st.none() | st.sampled_from(["dog", "fire truck", "t-shirt"]))
    x, y = sorted(draw(st.tuples(fraction, fraction))), sorted(draw(st.tuples(fraction, fraction)))
    has_region = x[0] < x[1] and y[0] < y[1] and draw(st.booleans())
    return Edit(
        op=op,
        concept=concept,
        feature=draw(st.integers(0, 11)) if concept is None else None,
        value=None if op == "ablate" else draw(st.floats(0, 8)),
        unit=draw(st.sampled_from(["p99", "raw"])) if op in ("clamp", "add") else "p99",
        region=(x[0], y[0], x[1], y[1]) if has_region else None,
        image=draw(st.none() | st.integers(0, 1)),
        k=draw(st.none() | st.integers(1, 16)) if concept is not None else None,
    )


@given(edit=any_edit())
def test_json_gives_back_the_same_edit(edit: Edit) -> None:
    item = edit.to_json()
    assert set(item) <= set(KEYS)
    assert parse_edits({"edits": [item]}, n_images=2, n_features=12) == (edit,)


@pytest.mark.parametrize(
    ("edit", "removes"),
    [
        (Edit("ablate", "dog"), True),
        (Edit("clamp", "dog", value=0.0), True),
        (Edit("scale", "dog", value=0), True),
        (Edit("add", "dog", value=0.0), False),
        (Edit("clamp", "dog"), False),
    ],
)
def test_setting_to_zero_counts_as_removing(edit: Edit, removes: bool) -> None:
    assert edit.removes is removes
