"""A gateway over the tiny pipeline with stand-ins for vLLM behind it."""

import importlib.util
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from serving.engines.pool import Pool
from serving.engines.vllm_engine import VllmEngine
from serving.limits import Limits
from tests.tiny_model import tiny_pipeline
from vlm.decoding import decode
from vlm.language_model import embed
from vlm.merged_checkpoint import served_name
from vlm.pipeline import Pipeline
from vlm.sampling import Sampling

SITE = Path(__file__).parent / "fake_site"  # what an interpreter with vLLM has on its path
NAME = served_name("tiny", "f" * 64)


def _load() -> ModuleType:
    """By its path: a package named vllm on the path of tests would pass for the real one."""
    file = SITE / "vllm" / "entrypoints" / "openai" / "api_server.py"
    spec = importlib.util.spec_from_file_location("fake_vllm", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake_module() -> ModuleType:
    return _load()


@pytest.fixture(scope="session")
def tiny() -> Pipeline:
    return tiny_pipeline()


@pytest.fixture
def fake_site() -> Path:
    return SITE


@pytest.fixture
def start_fake(fake_module: ModuleType) -> Callable[..., AbstractContextManager[Any]]:
    return lambda **options: fake_module.FakeVllm(NAME, **options)


@pytest.fixture
def fake(start_fake: Any) -> Iterator[Any]:
    with start_fake() as server:
        yield server


@pytest.fixture
def gateway(serve: Any, tiny: Pipeline) -> Callable[..., AbstractContextManager[str]]:
    """`with gateway(url, ...) as address`: the API over these vLLM servers."""

    @contextmanager
    def make(*urls: str, key: str | None = None, limits: Limits | None = None) -> Iterator[str]:
        limits = limits or Limits()
        pool = Pool(urls, NAME, key)
        pool.check_all()
        pool.start()
        with serve(
            tiny, limits=limits, engine=lambda worker: VllmEngine(worker, pool, limits)
        ) as url:
            yield url

    return make


@pytest.fixture
def as_vllm(tiny: Pipeline) -> Callable[..., str]:
    """What the fake answers with the tiny language model in it: the chat as vLLM lays it out."""

    def answer(messages: Any, blocks: Any, body: Any) -> str:
        gap, plain = "\ue000", []
        for message in messages:
            parts = [p["text"] if p["type"] == "text" else gap for p in message["content"]]
            plain.append({"role": message["role"], "content": "\n".join(parts)})
        text = tiny.tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        cuts = [
            tiny.tokenizer(cut, add_special_tokens=False)["input_ids"] for cut in text.split(gap)
        ]
        vectors = [embed(tiny.model, cuts[0])]
        for rows, cut in zip(blocks, cuts[1:], strict=True):
            vectors += [torch.tensor(rows), embed(tiny.model, cut)]
        end = int(tiny.tokenizer.convert_tokens_to_ids("<|im_end|>"))
        sampling = Sampling(max_tokens=body["max_tokens"])
        steps = decode(tiny.model, [torch.cat(vectors)], [sampling], end)
        tokens = [step[0][1] for step in steps]
        out: str = tiny.tokenizer.decode([t for t in tokens if t != end], skip_special_tokens=True)
        return out

    return answer


@pytest.fixture
def picture() -> Callable[[int], bytes]:
    """A photograph by its number."""
    from PIL import Image

    def make(seed: int) -> bytes:
        out = io.BytesIO()
        colour = ((37 * seed) % 256, (91 * seed + 40) % 256, (13 * seed + 90) % 256)
        Image.new("RGB", (12, 12), colour).save(out, "PNG")
        return out.getvalue()

    return make
