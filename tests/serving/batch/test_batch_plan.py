"""What is made of a photograph."""

import json
from typing import Any

import pytest

from serving.batch.plan import PLAIN, Plan, Steering, sweep
from sparse_encoder.errors import SparsightError
from tests.tiny_model import photo
from vlm.edits import Edit
from vlm.recipe import Recipe
from vlm.steer_from import SteerFrom


def test_a_plan_of_one_caption_has_the_recipe_of_earlier_versions() -> None:
    edits = (Edit("ablate", concept="dog"),)
    plan = Plan("f" * 64, ("what?",), (Steering("steer", edits),), 9)
    assert plan.to_json() == {
        "fingerprint": "f" * 64,
        "prompt": "what?",
        "steering": {"edits": [edits[0].to_json()]},
        "max_tokens": 9,
    }


def test_plans_that_differ_in_anything_have_other_objects() -> None:
    edits = (Edit("ablate", concept="dog"),)
    plans = [
        Plan("f" * 64),
        Plan("e" * 64),
        Plan("f" * 64, ("a",)),
        Plan("f" * 64, ("a", "b")),
        Plan("f" * 64, ("b", "a")),
        Plan("f" * 64, (), codes=True),
        Plan("f" * 64, codes=True),
        Plan("f" * 64, codes=True, embedding="dense"),
        Plan("f" * 64, codes=True, embedding="sparse"),
        Plan("f" * 64, steerings=(Steering("s", edits),)),
        Plan("f" * 64, steerings=(PLAIN, Steering("s", edits))),
        Plan("f" * 64, steerings=(PLAIN, Steering("t", edits))),
        Plan("f" * 64, steerings=(Steering("s", recipe=Recipe("r", "f" * 64, edits)),)),
        Plan("f" * 64, steerings=(Steering("s", recipe=Recipe("r2", "f" * 64, edits)),)),
        Plan("f" * 64, steerings=(Steering("s", steer_from=SteerFrom(photo(0))),)),
        Plan("f" * 64, steerings=(Steering("s", steer_from=SteerFrom(photo(1))),)),
        Plan("f" * 64, steerings=(Steering("s", steer_from=SteerFrom(photo(1), 9)),)),
        Plan("f" * 64, max_tokens=3),
    ]
    seen = [json.dumps(plan.to_json(), sort_keys=True) for plan in plans]
    assert len(set(seen)) == len(plans)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"prompts": ()}, "nothing is asked"),
        ({"prompts": ("a", "a")}, "same prompt"),
        ({"steerings": (PLAIN, PLAIN)}, "'plain'"),
        ({"steerings": tuple(Steering(str(n)) for n in range(257))}, "257 captions"),
    ],
)
def test_plans_that_make_no_sense_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        Plan("f" * 64, **options)


def test_a_sweep_is_one_edit_a_dose() -> None:
    assert sweep("cat=0, 0.5@0,0,0.5,1") == [
        ("cat=0@0,0,0.5,1", {"concept": "cat", "op": "ablate", "region": [0, 0, 0.5, 1]}),
        (
            "cat=0.5@0,0,0.5,1",
            {"concept": "cat", "op": "clamp", "value": 0.5, "region": [0, 0, 0.5, 1]},
        ),
    ]
    assert [name for name, _ in sweep("#3*0.5,2")] == ["#3*0.5", "#3*2"]


@pytest.mark.parametrize("text", ["cat", "cat=1", "cat=1,", "cat=1,9", "=1,2", "cat=1@0,0,1,1"])
def test_what_is_no_sweep_is_refused(text: str) -> None:
    with pytest.raises(SparsightError) as caught:
        sweep(text)
    assert caught.value.param == "sweep"
