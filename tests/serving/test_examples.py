"""The scripts that users copy, run as they are written against the model in the box."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml

from serving.cli.main import main
from vlm.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A cat and a rocket."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("chelsea.jpg", "rocket.jpg"):
        shutil.copy(ROOT / "demo" / "examples" / name, folder)
    return folder


@pytest.fixture(scope="module")
def gateway(serve: Callable[..., Any]) -> Iterator[str]:
    with serve(Pipeline.load()) as address:
        yield address


def example(*words: str | Path, code: int = 0, **environment: str) -> str:
    """What a script of examples/ prints, run as a user would."""
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [str(word) for word in words],
        cwd=EXAMPLES,
        env={**os.environ, "PATH": here, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.model
def test_a_folder_is_captioned_with_sidecars_and_goes_on(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        example("sh", "caption_folder.sh", photos, out)
        lines = [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]
        assert [Path(line["path"]).name for line in lines] == ["chelsea.jpg", "rocket.jpg"]
    assert "cat" in lines[0]["caption"]
    assert lines[0]["caption"] in (photos / "chelsea.jpg.xmp").read_text(encoding="utf-8")
    assert list((out / "parquet").iterdir())


@pytest.mark.slow
@pytest.mark.model
def test_a_forbidden_concept_is_not_spoken_of(photos: Path) -> None:
    said = example(sys.executable, "forbid_concept.py", "cat", photos / "chelsea.jpg")
    _, plain, silent = said.rstrip("\n").split("\t")
    assert "cat" in plain.lower() and "cat" not in silent.lower()


@pytest.mark.slow
@pytest.mark.model
def test_an_archive_finds_the_photograph_of_a_word(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    archive = tmp_path / "archive"
    (photos / "bad.jpg").write_bytes(b"bad")  # which is named, and stops nothing
    example(sys.executable, "searchable_archive.py", "build", photos, archive)
    found = example(sys.executable, "searchable_archive.py", "find", archive, "cat")
    strength, path, caption = found.splitlines()[0].split("\t")
    assert Path(path).name == "chelsea.jpg" and float(strength) > 0 and "cat" in caption
    nothing = (sys.executable, "searchable_archive.py", "find", archive, "no such name")
    assert example(*nothing, code=1) == ""


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("script", ["openai_client.py", "langchain_chat.py"])
def test_clients_get_a_steered_caption(script: str, gateway: str, photos: Path) -> None:
    if script == "langchain_chat.py":
        pytest.importorskip("langchain_openai")
    address = {"OPENAI_BASE_URL": f"{gateway}/v1"}
    said = example(sys.executable, script, photos / "chelsea.jpg", **address)
    assert said.strip() and "cat" not in said.lower()
    assert ("dog" in said.lower()) == (script == "openai_client.py")


def test_open_webui_is_pointed_at_the_gateway_and_its_questions_are_answered(
    url: str, uri: str
) -> None:
    """The container was not run; these are requests of the shape that it sends."""
    compose = yaml.safe_load((EXAMPLES / "open-webui" / "docker-compose.yml").read_text())
    environment = compose["services"]["open-webui"]["environment"]
    path = httpx.URL(environment["OPENAI_API_BASE_URL"]).path
    assert path == "/v1"
    (model,) = httpx.get(f"{url}{path}/models", timeout=60).json()["data"]
    parts = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": uri}},
    ]
    body = {
        "stream": True,
        "model": model["id"],
        "messages": [{"role": "user", "content": parts}],
        "stream_options": {"include_usage": True},
    }
    key = {"authorization": "Bearer not-needed"}
    answer = httpx.post(f"{url}{path}/chat/completions", json=body, headers=key, timeout=60)
    assert answer.status_code == 200 and answer.text.rstrip().endswith("data: [DONE]")
    chunks = [
        json.loads(line.removeprefix("data: "))
        for line in answer.text.splitlines()
        if line.startswith("data: {")
    ]
    said = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]]
    assert "".join(said) == "1 photos, no edits, asked what?"


def test_the_job_array_gives_each_task_its_shard_and_its_file(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "sparsight"
    fake.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["sh", str(EXAMPLES / "batch" / "slurm.sh"), "my photos", "out"],
        env={
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_TASK_COUNT": "16",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words == ["caption", "my photos", "--shard", "3/16", "--out", "out/captions-3.jsonl"]
    command = main.commands["caption"]
    command.make_parser(
        click.Context(command, parent=click.Context(main, **main.context_settings))
    ).parse_args(words[1:])
