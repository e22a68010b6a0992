"""Reading and writing the file of a recipe: UTF-8 JSON, whole or not there."""

import json
from pathlib import Path

from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import write_whole
from vlm.recipe import Recipe, parse_recipe

MAX_BYTES = 1_000_000  # 64 edits with the longest concepts are about 20 kB


def read_recipe_file(path: str | Path) -> Recipe:
    """The recipe in the file at `path`. Raises SparsightError where it cannot be read or is none."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        why = getattr(error, "strerror", None) or error
        raise SparsightError(f"the recipe {path} cannot be read: {why}", param="recipe") from error
    return recipe_from_bytes(content, str(path))


def recipe_from_bytes(content: bytes, name: str) -> Recipe:
    """The recipe that a file of this content holds; `name` is the file's, for refusals."""
    if len(content) > MAX_BYTES:
        raise _no_recipe(name, f"is larger than {MAX_BYTES / 1e6:g} MB, which no recipe is")
    try:
        data = json.loads(content.decode("utf-8-sig"))  # some editors put a mark in front
    except UnicodeDecodeError as error:
        raise _no_recipe(
            name, f"is not UTF-8 (byte {error.start} is {content[error.start]:#x})"
        ) from None
    except RecursionError:
        raise _no_recipe(name, "is nested too deeply") from None
    except ValueError as error:
        raise _no_recipe(name, f"is no JSON: {error}") from None
    return parse_recipe(data, param=name)


def recipe_to_bytes(recipe: Recipe) -> bytes:
    """The content of its file, one edit a line, so that two recipes can be compared by eye."""
    whole = recipe.to_json()
    edits = ",\n".join(f"    {_json(edit)}" for edit in whole.pop("edits"))
    head = "".join(f"  {_json(key)}: {_json(value)},\n" for key, value in whole.items())
    return f'{{\n{head}  "edits": [\n{edits}\n  ]\n}}\n'.encode()


def write_recipe_file(path: str | Path, recipe: Recipe) -> None:
    """Writes the recipe, over a file that is there. Raises SparsightError where it cannot."""
    try:
        write_whole(Path(path), recipe_to_bytes(recipe))
    except OSError as error:
        raise SparsightError(
            f"the recipe {path} cannot be written: {error.strerror or error}", param="recipe"
        ) from error


def _json(item: object) -> str:
    return json.dumps(item, ensure_ascii=False)


def _no_recipe(name: str, why: str) -> SparsightError:
    return SparsightError(f"{name} {why}", param="recipe", code="no_recipe")
