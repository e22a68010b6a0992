"""The reference pages say what the program does."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import render_openapi
import render_openapi_page
import render_settings
from pydantic import BaseModel
from render_cli_reference import TARGET, render

from serving.batches.wire import Batch, BatchLine, BatchRequest
from serving.chat.answer_wire import Logprob
from serving.chat.fields import IGNORED, REFUSED
from serving.chat.wire import ChatRequest, JsonSchema
from serving.embeddings.wire import MAX_INPUTS, EmbeddingRequest, SparseEmbedding
from serving.features.wire import (
    Activations,
    ActivationsRequest,
    ActiveFeature,
    FeatureDetail,
    FeatureList,
    FeatureNeighbour,
    NamedFeature,
    SparseCode,
    SparseCodes,
)
from serving.files.wire import FileObject
from serving.limits import Limits
from serving.models.wire import Capabilities
from serving.recipe.wire import RecipeRequest
from serving.steering.wire import SweepAnswer, SweepRequest, SweepResult, SweepUsage
from serving.steering_body import KEYS as STEERING_KEYS
from vlm import edits, receipt, recipe
from vlm.concepts import MAX_DENSITY
from vlm.reach import Reach
from vlm.shorthand import parse_shorthand
from vlm.sweep import MAX_SWEEP, SWEEP_DOSES

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
EDITS = (REFERENCE / "edits.md").read_text(encoding="utf-8")
HTTP = (REFERENCE / "http-api.md").read_text(encoding="utf-8")


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _keys(kind: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in kind.model_fields.items()]


def test_the_command_line_page_is_what_the_commands_say_of_themselves() -> None:
    # Line breaks are click's, and differ between its versions.
    assert _spaced(TARGET.read_text(encoding="utf-8")) == _spaced(render()), (
        "docs/reference/cli.md is stale; run python tests/docs/render_cli_reference.py"
    )


def test_the_committed_openapi_file_is_what_the_server_says() -> None:
    committed = json.loads(render_openapi.TARGET.read_text(encoding="utf-8"))
    assert committed == json.loads(render_openapi.render()), (
        "docs/reference/openapi.json is stale; run python tests/docs/render_openapi.py"
    )


def test_the_openapi_page_is_made_from_the_file() -> None:
    schema = json.loads(render_openapi.TARGET.read_text(encoding="utf-8"))
    assert render_openapi_page.TARGET.read_text("utf-8") == render_openapi_page.render(schema), (
        "docs/reference/openapi.md is stale; run python tests/docs/render_openapi.py"
    )


def test_the_openapi_page_has_every_route_and_object() -> None:
    schema = json.loads(render_openapi.TARGET.read_text(encoding="utf-8"))
    page = render_openapi_page.TARGET.read_text("utf-8")
    routes = {f"{m.upper()} {path}" for path, ms in schema["paths"].items() for m in ms}
    assert set(re.findall("^### (.*)$", page, re.M)) == routes | set(
        schema["components"]["schemas"]
    )


def test_the_settings_page_is_what_the_dataclasses_say() -> None:
    assert render_settings.TARGET.read_text("utf-8") == render_settings.render(), (
        "docs/reference/settings.md is stale; run python tests/docs/render_settings.py"
    )


@pytest.mark.parametrize("run", render_settings.RUNS, ids=lambda run: run[0])
def test_every_setting_has_a_meaning_and_every_preset_is_listed(run: Any) -> None:
    title, _, defaults, presets = run
    assert [name for name, _, meaning in render_settings.settings(defaults) if not meaning] == []
    section = render_settings.render().partition(f"## {title}\n")[2].partition("\n## ")[0]
    assert [name for name in presets if f"\n| `{name}` |" not in section] == []


@pytest.mark.parametrize(
    "kind",
    [
        ChatRequest,
        Logprob,
        JsonSchema,
        EmbeddingRequest,
        SparseEmbedding,
        Capabilities,
        FileObject,
        BatchRequest,
        BatchLine,
        Batch,
        ActivationsRequest,
        Activations,
        ActiveFeature,
        SparseCode,
        SparseCodes,
        NamedFeature,
        FeatureList,
        FeatureDetail,
        FeatureNeighbour,
        RecipeRequest,
        SweepRequest,
        SweepResult,
        SweepAnswer,
        SweepUsage,
    ],
)
def test_every_key_of_the_http_api_is_described(kind: type[BaseModel]) -> None:
    assert [key for key in _keys(kind) if f"`{key}`" not in HTTP] == []


def test_every_key_of_openais_and_vllms_that_is_not_served_is_in_the_table() -> None:
    assert [key for key in (*IGNORED, *REFUSED) if f"`{key}`" not in HTTP] == []


def test_the_limits_of_the_gateway_are_the_documented_ones() -> None:
    limits = Limits()
    for words in (
        f"at most {limits.max_images} a request",
        f"up to {MAX_INPUTS} of them",
        f"at most {limits.max_tokens}",
        f"at most {MAX_SWEEP}; 0 takes",
        ", ".join(f"{dose:g}" for dose in SWEEP_DOSES),
        f"above {limits.max_body_bytes // 2**20} MiB",
        f"{limits.max_open} requests",
    ):
        assert words in HTTP, words


def test_every_key_operation_unit_and_rule_of_edits_is_described() -> None:
    words = [*edits.KEYS, *receipt.KEYS, *receipt.OPTIONAL_KEYS, *recipe.KEYS, *STEERING_KEYS]
    words += [*get_args(edits.Op), *get_args(edits.Unit)]
    assert [word for word in (*words, *get_args(Reach)) if f"`{word}`" not in EDITS] == []


def test_the_limits_of_edits_are_the_documented_ones() -> None:
    for words in (
        f"at most {edits.MAX_EDITS}",
        f"more than {edits.MAX_TOUCHED} features",
        f"above {edits.MAX_DOSE:g} p99",
        f"1 to {edits.MAX_K} | {edits.DEFAULT_K} |",
        f"{edits.MAX_CONCEPT_LENGTH} characters",
        f"more than {100 * MAX_DENSITY:.0f} %",
        f"at most {recipe.MAX_NAME} characters",
        f"at most {recipe.MAX_DESCRIPTION} characters",
    ):
        assert words in EDITS, words


def test_every_documented_shorthand_is_one() -> None:
    table = EDITS.partition("## Shorthand")[2].partition("##")[0]
    found = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(found) == 7
    for text in found:
        parse_shorthand(text)
