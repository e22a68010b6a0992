"""Twenty minutes of mixed requests on a real server process: memory and open files stay flat.

``make soak`` runs it and prints the figures; SOAK_MINUTES changes how long.
"""

import base64
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import WORDS, png

MINUTES = float(os.environ.get("SOAK_MINUTES", "20"))
N_CLIENTS = 6
SAMPLE_S = 5.0
# What memory may grow by after the first half: pages that the allocator keeps, and measuring.
SLACK_MB, SLACK_SHARE = 8.0, 0.03


@dataclass(frozen=True)
class Sample:
    second: float
    memory_mb: float
    n_files: int
    n_threads: int


@contextmanager
def server(folder: Path) -> Iterator[tuple[int, int]]:
    """(process id, port) of a server over a tiny model."""
    port_file, script = folder / "port", Path(__file__).with_name("hostile_server.py")
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, str(script), "model", str(port_file)], stdout=said, stderr=said
        )
        try:
            until = time.monotonic() + 600
            while not port_file.exists():
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            yield process.pid, int(port_file.read_text())
        finally:
            process.terminate()
            assert process.wait(60) == 0


def sample(pid: int, second: float) -> Sample:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    files, threads = (len(os.listdir(f"/proc/{pid}/{what}")) for what in ("fd", "task"))
    return Sample(second, memory, files, threads)


def chat(dice: random.Random, **more: Any) -> dict[str, Any]:
    uri = f"data:image/png;base64,{base64.b64encode(png(dice.randrange(10_000))).decode()}"
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "what?"}]
    messages = [{"role": "user", "content": content}]
    return {"model": "tiny", "messages": messages, "max_tokens": 8, **more}


def request_of(dice: random.Random) -> tuple[str, str, dict[str, Any] | None]:
    """One of what clients ask, sound and not."""
    edit = {"op": "clamp", "concept": dice.choice(WORDS), "value": round(dice.uniform(0, 2), 3)}
    body = chat(dice, steering={"edits": [edit]})
    uri = body["messages"][0]["content"][0]["image_url"]["url"]
    word = "".join(dice.choices("abcdef ", k=dice.randrange(1, 30))).strip() or "a"
    sweep = {"model": "tiny", "image": uri, "concept": "dog", "doses": [0, 1], "max_tokens": 4}
    return dice.choice(
        [
            ("POST", "/v1/chat/completions", chat(dice)),
            ("POST", "/v1/chat/completions", body),
            ("POST", "/v1/chat/completions", {**body, "stream": True}),
            ("POST", "/v1/chat/completions", {**chat(dice), "logprobs": True, "n": 2}),
            ("POST", "/v1/chat/completions", {**body, "steering": {"edits": [{"op": word}]}}),
            ("POST", "/v1/chat/completions", {"model": word}),
            ("POST", "/v1/embeddings", {"model": "tiny", "input": word}),
            ("POST", "/v1/steering/sweep", sweep),
            ("GET", "/metrics", None),
            ("GET", f"/v1/{word.replace(' ', '-')}", None),
        ]
    )


def client(port: int, place: int, until: float, statuses: "Counter[int]") -> None:
    dice = random.Random(place)
    while time.monotonic() < until:
        method, path, body = request_of(dice)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json"})
            answer = connection.getresponse()
            if body is not None and body.get("stream") and dice.random() < 0.5:
                answer.read(dice.randrange(1, 400))  # and leaves
            else:
                answer.read()
            statuses[answer.status] += 1
        finally:
            connection.close()


@pytest.mark.soak
@pytest.mark.timeout(int(60 * MINUTES + 900))
def test_memory_and_open_files_are_flat_under_mixed_requests(tmp_path: Path) -> None:
    statuses = [Counter[int]() for _ in range(N_CLIENTS)]
    samples: list[Sample] = []
    with server(tmp_path) as (pid, port):
        began = time.monotonic()
        until = began + 60 * MINUTES
        threads = [
            threading.Thread(target=client, args=(port, place, until, statuses[place]))
            for place in range(N_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            samples.append(sample(pid, time.monotonic() - began))
            time.sleep(min(SAMPLE_S, 60 * MINUTES / 20))
        for thread in threads:
            thread.join(180)
            assert not thread.is_alive(), "a request hangs"
        time.sleep(2)
        end = sample(pid, time.monotonic() - began)
    total = sum(statuses, Counter[int]())
    quarter = len(samples) // 4
    parts = [samples[i * quarter : (i + 1) * quarter] for i in range(4)]
    memory = [statistics.median(one.memory_mb for one in part) for part in parts]
    files = [max(one.n_files for one in part) for part in parts]
    sys.stderr.write(
        f"\n{MINUTES:g} min, {sum(total.values()):,} requests {dict(total)}; median MiB by quarter "
        f"{[round(one, 1) for one in memory]}; most open files {files}, {end.n_files} at the end; "
        f"threads {samples[-1].n_threads}\n"
    )
    assert total[200] > total.total() / 3 and not {500, 502} & set(total)
    assert memory[3] <= memory[1] + SLACK_MB + SLACK_SHARE * memory[1]
    assert files[3] <= files[1] + N_CLIENTS
    assert end.n_files <= samples[0].n_files + 2 * N_CLIENTS
