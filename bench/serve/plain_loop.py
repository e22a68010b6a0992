"""What one would write first: FastAPI, one photograph a request, transformers' own `generate`.

``python -m bench.serve.plain_loop`` serves it. It has the same encoder, edits, projector and
language model as the gateway, and none of what is around them: no batch, no cache, one request at a
time, since `generate` holds the model. It streams nothing, as such loops do.
"""

import threading
from typing import Any

import click
import torch
import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from serving.data_uri import read_image
from serving.launch import address, bind
from vlm.edits import parse_edit
from vlm.language_model import embed
from vlm.pipeline import ImagePart, Message, Pipeline, TextPart
from vlm.template import chat_pieces, end_of_turn


def plain_app(pipeline: Pipeline) -> FastAPI:
    """One route, with OpenAI's names."""
    app = FastAPI()
    one_at_a_time = threading.Lock()
    end = end_of_turn(pipeline.tokenizer)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> dict[str, Any]:
        body = await request.json()
        return await run_in_threadpool(answer, body)

    @torch.inference_mode()
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        image_part, text_part = body["messages"][0]["content"]
        image = read_image(image_part["image_url"]["url"], param="image")
        edits = [parse_edit(edit) for edit in body.get("steering", {}).get("edits", ())]
        with one_at_a_time:
            pipeline.kept_codes.clear()  # such a loop keeps nothing
            edited = pipeline.steer(pipeline.encode([image]), edits).edited
            soft = pipeline.edited_soft_tokens(edited)[0]
            message = Message("user", (ImagePart(image), TextPart(text_part["text"])))
            before, after = chat_pieces([message], pipeline.tokenizer)
            inputs = torch.cat([embed(pipeline.model, before), soft, embed(pipeline.model, after)])[
                None
            ]
            n = body["max_tokens"]
            tokens = pipeline.model.generate(
                inputs_embeds=inputs,
                attention_mask=torch.ones(inputs.shape[:2], dtype=torch.int64),
                max_new_tokens=n,
                # The same length for every variant: its end mark is not taken.
                min_new_tokens=n if body.get("logit_bias") else None,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=end,
            )[0]
        text = pipeline.tokenizer.decode(tokens, skip_special_tokens=True)
        return {
            "choices": [{"message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": inputs.shape[1], "completion_tokens": len(tokens)},
        }

    return app


@click.command()
@click.option("--model", default="sparsight-mini", show_default=True)
def main(model: str) -> None:
    """Serves the loop on a free port of the loopback address, which it prints."""
    app = plain_app(Pipeline.load(model))
    bound = bind("127.0.0.1", 0)
    click.echo(f"API:  {address(bound)}/v1", err=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[bound])


if __name__ == "__main__":
    main()
