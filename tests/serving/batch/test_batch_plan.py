"""What is made of a photograph."""

import json
from pathlib import Path
from typing import Any

import pytest

from serving.batch.plan import PLAIN, Plan, Steering, read_presets, sweep
from sparse_encoder.errors import SparsightError
from vlm.edits import Edit

PRESET = {"fingerprint": "f" * 64, "steering": {"edits": [{"op": "ablate", "concept": "dog"}]}}


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


def test_a_preset_file_holds_one_or_several_by_name(tmp_path: Path) -> None:
    (tmp_path / "no-dog.json").write_text(json.dumps(PRESET))
    (tmp_path / "two.json").write_text(json.dumps({"a": PRESET, "b": PRESET}))

    def read(name: str) -> list[str]:
        found = read_presets(str(tmp_path / name), fingerprint="f" * 64, n_features=8)
        assert all(each.edits == (Edit("ablate", concept="dog"),) for each in found)
        return [each.name for each in found]

    assert read("no-dog.json") == ["no-dog"]
    assert read("two.json") == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "cannot be read"),
        ("{", "no JSON"),
        ("[]", "no preset"),
        ("{}", "no preset"),
        (json.dumps({**PRESET, "fingerprint": "e" * 64}), "made for model"),
        (json.dumps({"a": {"steering": {}}}), "fingerprint"),
        (
            json.dumps({**PRESET, "steering": {"edits": [{"op": "ablate", "feature": 8}]}}),
            r"0\.\.7",
        ),
    ],
)
def test_a_bad_preset_is_refused(tmp_path: Path, content: str | None, word: str) -> None:
    path = tmp_path / "p.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SparsightError, match=word):
        read_presets(str(path), fingerprint="f" * 64, n_features=8)
