"""What may be typed for an edit, and what may not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.errors import SparsightError
from vlm.edits import parse_edit
from vlm.shorthand import parse_shorthand

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("dog=0", {"concept": "dog", "op": "ablate"}),
    ("dog=0.0", {"concept": "dog", "op": "ablate"}),
    ("cat=1", {"concept": "cat", "op": "clamp", "value": 1.0}),
    ("cat=1p99", {"concept": "cat", "op": "clamp", "value": 1.0}),
    ("cat=1.2raw", {"concept": "cat", "op": "clamp", "value": 1.2, "unit": "raw"}),
    ("cat*1.5", {"concept": "cat", "op": "scale", "value": 1.5}),
    ("cat*0", {"concept": "cat", "op": "scale", "value": 0.0}),
    ("cat+0.4", {"concept": "cat", "op": "add", "value": 0.4}),
    ("cat+.4raw", {"concept": "cat", "op": "add", "value": 0.4, "unit": "raw"}),
    ("#812=1", {"feature": 812, "op": "clamp", "value": 1.0}),
    ("#0=0", {"feature": 0, "op": "ablate"}),
    (
        "cat=1@0,0,0.5,1",
        {"concept": "cat", "op": "clamp", "value": 1.0, "region": [0, 0, 0.5, 1]},
    ),
    ("dog=0@.5, 0, 1, 1", {"concept": "dog", "op": "ablate", "region": [0.5, 0, 1, 1]}),
    (" fire truck = 2 ", {"concept": "fire truck", "op": "clamp", "value": 2.0}),
    ("t-shirt*1e-1", {"concept": "t-shirt", "op": "scale", "value": 0.1}),
    ("3d=1", {"concept": "3d", "op": "clamp", "value": 1.0}),
]

BAD: list[tuple[str, str]] = [
    ("", "no =, * or +"),
    ("dog", "no =, * or +"),
    ("cat-0.4", "no =, * or +"),
    ("=1", "before the operator"),
    ("cat=", "no number follows ="),
    ("cat=big", "'big' is no number"),
    ("cat=1 2", "is no number"),
    ("cat==1", "is no number"),
    ("cat=1.2kg", "is no number"),
    ("cat=nan", "is no number"),
    ("cat=inf", "is no number"),
    ("cat=1e999", "finite"),
    ("cat=-1", "negative"),
    ("cat+-0.4", "negative"),
    ("cat=9", "above the limit of 8 p99"),
    ("cat*9", "factor of 9"),
    ("cat*1.5raw", "pure factor"),
    ("#=1", "no feature index"),
    ("#dog=1", "no feature index"),
    ("#-3=1", "no feature index"),
    ("cat=1@", "no region"),
    ("cat=1@0,0,1", "no region"),
    ("cat=1@a,b,c,d", "no region"),
    ("cat=1@0,0,0,1", "empty"),
    ("cat=1@0,0,2,1", "outside the image"),
    ("cat@0,0,1,1=1", "no =, * or +"),
    ("x" * 101 + "=1", "101 characters"),
]


@pytest.mark.parametrize(("text", "edit"), GOOD)
def test_shorthand_gives_the_json_shape(text: str, edit: dict[str, Any]) -> None:
    assert parse_shorthand(text) == edit


@pytest.mark.parametrize(("text", "word"), BAD)
def test_bad_shorthand_is_refused_in_words(text: str, word: str) -> None:
    with pytest.raises(SparsightError) as caught:
        parse_shorthand(text, param="--steer")
    assert word in str(caught.value)
    assert caught.value.param == "--steer"


@given(text=st.text(max_size=30) | st.text(alphabet="ab #=*+@0123.,-eraw", max_size=20))
def test_any_text_is_an_edit_or_a_refusal(text: str) -> None:
    try:
        edit = parse_shorthand(text)
    except SparsightError:
        return
    assert parse_edit(edit).to_json() == edit
