"""LangChain's and LiteLLM's adapters, and schemathesis, where they are installed."""

import asyncio
from typing import Any

import httpx
import pytest

EDITS = {"edits": [{"concept": "dog", "op": "ablate"}]}


def content(uri: str) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": uri}},
    ]


def test_langchain_chats_streams_and_embeds(url: str, uri: str) -> None:
    langchain = pytest.importorskip("langchain_openai")
    chat = langchain.ChatOpenAI(
        model="fake", base_url=f"{url}/v1", api_key="none", extra_body={"steering": EDITS}
    )
    message = [{"role": "user", "content": content(uri)}]
    whole = chat.invoke(message)
    assert whole.content == "1 photos, ablate dog, asked what?"
    assert "".join(chunk.content for chunk in chat.stream(message)) == whole.content
    assert asyncio.run(chat.ainvoke(message)).content == whole.content
    embeddings = langchain.OpenAIEmbeddings(
        model="fake", base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False
    )
    assert len(embeddings.embed_query("an animal")) == 8


@pytest.mark.filterwarnings("ignore")  # its own
def test_litellm_chats_streams_and_embeds(
    url: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    to = {"model": "openai/fake", "api_base": f"{url}/v1", "api_key": "none"}
    asked = {**to, "messages": [{"role": "user", "content": content(uri)}]}
    extra = {"extra_body": {"steering": EDITS}}
    whole = litellm.completion(**asked, **extra).choices[0].message.content
    assert whole == "1 photos, ablate dog, asked what?"
    pieces = [
        one.choices[0].delta.content for one in litellm.completion(**asked, **extra, stream=True)
    ]
    assert "".join(piece or "" for piece in pieces) == whole
    found = litellm.embedding(**to, input=["an animal"], encoding_format="float")
    assert len(found.data[0]["embedding"]) == 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # schemathesis's and its parts' own
def test_schemathesis_finds_no_fault_of_ours_and_no_answer_outside_the_schema(
    url: str, pipeline: Any
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json", timeout=60).json())
    # Rules such as "one of the two" are not in the schema, so a body that fits it may be refused.
    checks = schemathesis.checks
    left_out = [checks.CHECKS.get_one("positive_data_acceptance")]
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 18
    for operation in operations:

        @settings(max_examples=15, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def try_it(case: Any) -> None:
            case.call_and_validate(base_url=url, timeout=60, excluded_checks=left_out)

        try_it()
