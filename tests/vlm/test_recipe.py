"""Recipes: one file format, and refusals of what is none or belongs to another model."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.errors import SparsightError
from vlm.edits import Edit
from vlm.recipe import Recipe, parse_recipe
from vlm.recipe_file import read_recipe_file, recipe_from_bytes, recipe_to_bytes, write_recipe_file

PRINT, OTHER = "a" * 64, "b" * 64
DOG = {"op": "ablate", "concept": "dog"}
GOOD: dict[str, Any] = {"name": "no dog", "description": "", "fingerprint": PRINT, "edits": [DOG]}

# (content of the file, a word of the message, param)
BAD_FILES: list[tuple[bytes, str, str]] = [
    (b"", "is no JSON", "recipe"),
    (b"{", "is no JSON", "recipe"),
    (b"\xff\xfe{", "is not UTF-8", "recipe"),
    (json.dumps(GOOD).encode("utf-16"), "is not UTF-8", "recipe"),
    (b"[" * 100_000, "nested too deeply", "recipe"),
    (b" " * 1_000_001, "larger than 1 MB", "recipe"),
    (b"[]", "expected an object", "r.json"),
    (b'"dog=0"', "expected an object", "r.json"),
]
BAD_RECIPES: list[tuple[dict[str, Any], str, str]] = [
    ({"nmae": "x"}, "did you mean name", ".nmae"),
    ({"steering": {"edits": []}}, "unknown key 'steering'", ".steering"),
    ({"name": None}, "expected a string", ".name"),
    ({"name": " "}, "name is empty", ".name"),
    ({"name": "x" * 101}, "at most 100", ".name"),
    ({"description": 3}, "expected a string", ".description"),
    ({"description": "x" * 1001}, "at most 1000", ".description"),
    ({"fingerprint": 3}, "expected the model's", ".fingerprint"),
    ({"fingerprint": ""}, "expected the model's", ".fingerprint"),
    ({"edits": []}, "edits is empty", ".edits"),
    ({"edits": {}}, "expected a list", ".edits"),
    ({"edits": [DOG] * 65}, "at most 64", ".edits"),
    ({"edits": [DOG, {"op": "ablate"}]}, "neither", ".edits[1].concept"),
    ({"edits": [{**DOG, "op": "clamp", "value": 9}]}, "limit of 8", ".edits[0].value"),
    ({"edits": [{**DOG, "image": 0}]}, "for any photograph", ".edits[0].image"),
]


@pytest.mark.parametrize(("content", "word", "param"), BAD_FILES)
def test_a_file_that_is_no_recipe_is_refused(content: bytes, word: str, param: str) -> None:
    with pytest.raises(SparsightError) as caught:
        recipe_from_bytes(content, "r.json")
    assert word in caught.value.message and "r.json" in caught.value.message
    assert caught.value.param == param


@pytest.mark.parametrize(("change", "word", "key"), BAD_RECIPES)
def test_a_recipe_with_a_bad_key_is_refused_by_its_key(
    change: dict[str, Any], word: str, key: str
) -> None:
    with pytest.raises(SparsightError) as caught:
        parse_recipe({**GOOD, **change})
    assert word in caught.value.message
    assert caught.value.param == f"recipe{key}"


@pytest.mark.parametrize("key", ["name", "fingerprint", "edits"])
def test_a_recipe_without_a_needed_key_is_refused(key: str) -> None:
    with pytest.raises(SparsightError, match=f"has no {key}"):
        parse_recipe({k: v for k, v in GOOD.items() if k != key})


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SparsightError, match="cannot be read"):
            read_recipe_file(path)
    with pytest.raises(SparsightError, match="cannot be written"):
        write_recipe_file(tmp_path / "none" / "r.json", parse_recipe(GOOD))


EDITS = st.one_of(
    st.builds(Edit, st.just("ablate"), feature=st.integers(0, 10**6)),
    st.builds(
        Edit,
        st.sampled_from(["clamp", "add"]),
        concept=st.text("dogé 🐕", min_size=1).filter(str.strip),
        value=st.floats(0, 8),
        unit=st.sampled_from(["p99", "raw"]),
        region=st.none() | st.just((0.0, 0.1, 0.5, 1.0)),
        k=st.none() | st.integers(1, 16),
    ),
)


@given(
    name=st.text(min_size=1, max_size=20).filter(str.strip),
    description=st.text(max_size=30),
    edits=st.lists(EDITS, min_size=1, max_size=4),
)
def test_a_recipe_written_and_read_is_the_same(
    name: str, description: str, edits: list[Edit]
) -> None:
    recipe = Recipe(name, PRINT, tuple(edits), description)
    assert parse_recipe(json.loads(json.dumps(recipe.to_json()))) == recipe
    try:
        content = recipe_to_bytes(recipe)
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return
    assert recipe_from_bytes(content, "r") == recipe
    assert recipe_from_bytes(b"\xef\xbb\xbf" + content, "r") == recipe  # as Windows' editor saves


def test_the_file_has_an_edit_a_line(tmp_path: Path) -> None:
    edits = (Edit("ablate", "dog"), Edit("clamp", "cat", value=1.0))
    write_recipe_file(tmp_path / "r.json", Recipe("a", PRINT, edits))
    text = (tmp_path / "r.json").read_text()
    assert '\n    {"op": "ablate", "concept": "dog"},\n' in text
    assert list(json.loads(text)) == ["name", "description", "fingerprint", "edits"]


def test_a_recipe_gives_its_edits_to_its_own_model_alone() -> None:
    recipe = Recipe("a", PRINT, (Edit("ablate", "dog"), Edit("clamp", feature=11, value=1.0)))
    assert recipe.edits_for(PRINT, 12) == recipe.edits
    with pytest.raises(SparsightError, match=r"outside 0\.\.10"):
        recipe.edits_for(PRINT, 11)
    with pytest.raises(SparsightError, match="made for model aaaa.*resolve_again") as caught:
        recipe.edits_for(OTHER, 12, param="r.json")
    assert (caught.value.param, caught.value.code) == ("r.json.fingerprint", "other_fingerprint")


def test_concepts_are_resolved_again_for_another_model_and_nothing_else_is() -> None:
    concepts = (
        Edit("ablate", "dog"),
        Edit("scale", "cat", value=2.0),
        Edit("clamp", "cat", value=1.0),
    )
    assert Recipe("a", PRINT, concepts).edits_for(OTHER, 9, resolve_again=True) == concepts
    for bad, word, key in (
        (Edit("ablate", feature=3), "feature 3", "feature"),
        (Edit("clamp", "cat", value=1.0, unit="raw"), "raw dose", "unit"),
    ):
        recipe = Recipe("a", PRINT, (*concepts, bad))
        with pytest.raises(SparsightError, match=f"cannot be resolved again.*{word}") as caught:
            recipe.edits_for(OTHER, 9, resolve_again=True)
        assert caught.value.param == f"recipe.edits[3].{key}"
