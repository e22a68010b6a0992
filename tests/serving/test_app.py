"""The application as a whole: models, health, schema, pages."""

import asyncio
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI

from serving.app import create_app


def test_the_model_is_listed_and_found_by_its_name(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["fake"]
        assert client.models.retrieve("fake").steering == {
            "fingerprint": "f" * 64,
            "n_features": 8,
        }
        can = client.models.retrieve("fake").capabilities
        assert (can["max_choices"], can["context"], can["embedding_size"]) == (8, 512, 8)
        assert can["tools"] is False and "/v1/embeddings" in can["endpoints"]
        with pytest.raises(openai.NotFoundError, match="'fake'"):
            client.models.retrieve("other/model")


def test_health_says_ok_until_the_worker_has_ended(pipeline: Any) -> None:
    app = create_app(pipeline)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/health")

    answer = asyncio.run(ask())
    assert answer.json() == {
        "status": "ok",
        "model": "fake",
        "fingerprint": "f" * 64,
        "engine": "transformers",
        "open_requests": 0,
    }
    app.state.gateway.worker.close()
    assert asyncio.run(ask()).status_code == 503


def test_the_schema_describes_the_bodies_and_has_no_dangling_reference(http: httpx.Client) -> None:
    schema = http.get("/openapi.json").json()
    body = schema["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    properties = body["content"]["application/json"]["schema"]["properties"]
    assert {"messages", "model", "steering"} <= set(properties)

    def references(node: Any) -> list[str]:
        if isinstance(node, list):
            return [found for item in node for found in references(item)]
        if not isinstance(node, dict):
            return []
        own = [node["$ref"]] if "$ref" in node else []
        return own + references(list(node.values()))

    for reference in references(schema):
        place = schema
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_pages_are_mounted_beside_the_api(pipeline: Any, serve: Any) -> None:
    def mount(app: FastAPI) -> None:
        app.add_api_route("/demo", lambda: {"page": True})

    with serve(pipeline, mounts=[mount]) as url:
        assert httpx.get(f"{url}/demo", timeout=60).json() == {"page": True}
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200


def test_every_answer_has_a_request_id(http: httpx.Client) -> None:
    ids = {http.get(f"/{path}").headers["x-request-id"] for path in ("health", "nothing")}
    assert len(ids) == 2


def test_a_wrong_method_is_told_all_that_the_path_has(http: httpx.Client) -> None:
    answer = http.put("/v1/files")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    answer = http.put("/v1/files/file-1")
    assert answer.headers["allow"] == "DELETE, GET"


def test_the_schema_says_which_errors_come_and_none_of_another_kind(http: httpx.Client) -> None:
    schema = http.get("/openapi.json").json()
    operations = [one for path in schema["paths"].values() for one in path.values()]
    assert all("422" not in one["responses"] for one in operations)
    assert all("default" in one["responses"] for one in operations)
    assert "ValidationError" not in schema["components"]["schemas"]
