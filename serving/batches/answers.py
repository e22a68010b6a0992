"""One line of a batch, answered as its endpoint answers it."""

from collections.abc import Mapping
from typing import Any

from serving.chat.complete import complete_chat
from serving.embeddings.route import complete_embeddings
from serving.gateway import Gateway


async def answer_line(gateway: Gateway, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a whole answer. Raises as the endpoint would."""
    if url == "/v1/embeddings":
        return (await complete_embeddings(gateway, body)).model_dump()
    return await complete_chat(gateway, body)
