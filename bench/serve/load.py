"""The second process: sends requests when their time has come, and notes when answers come.

``python -m bench.serve.load`` reads a `Job` as JSON from standard input and prints a `Round`. Open
loop: a request leaves at its own time, however many are unanswered, and what it waited counts from
that time on. ``at_once`` instead keeps so many under way, which measures throughput.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import click
import httpx

from bench.serve.process_cpu import cpu_seconds

SILENCE_S = 600.0
LONGEST_ROUND_S = 1800.0


@dataclass(frozen=True)
class Job:
    """What to send. Exactly one of `rate` (requests/s, Poisson) and `at_once` is above 0."""

    url: str  # with its path
    bodies: list[dict[str, Any]]
    rate: float = 0.0
    at_once: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pids: list[int] = field(default_factory=list)  # of the servers whose CPU time counts
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.rate > 0) == (self.at_once > 0):
            raise ValueError(f"rate is {self.rate}, at_once {self.at_once}; give one of them")


@dataclass(frozen=True)
class Answered:
    """One request; seconds from when it was due."""

    status: int  # 0 where there was no whole answer
    first_s: float  # to the first piece of text; of a whole answer, to its end
    end_s: float
    gaps_s: list[float]  # between pieces of a stream
    n_prompt: int
    n_tokens: int


@dataclass(frozen=True)
class Round:
    """All requests of a job, in order."""

    answers: list[Answered]
    wall_s: float  # from the first one's due time to the last answer's end
    cpu_s: float  # of the servers
    load_cpu_s: float  # of this process

    @classmethod
    def from_json(cls, text: str) -> "Round":
        data = json.loads(text)
        return cls(**{**data, "answers": [Answered(**one) for one in data["answers"]]})


def run_load(job: Job) -> Round:
    """The job's round, by a process of its own. Raises RuntimeError with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.serve.load"],
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        timeout=LONGEST_ROUND_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the load process failed: {done.stderr[-2000:]}")
    return Round.from_json(done.stdout)


def due_times(n: int, rate: float, seed: int) -> list[float]:
    """Seconds from the start of n arrivals of a Poisson process; the first is at 0."""
    draw = random.Random(seed)
    times = [0.0]
    while len(times) < n:
        times.append(times[-1] + draw.expovariate(rate))
    return times[:n]


async def send_all(job: Job) -> Round:
    """Sends the job from this process."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx.Timeout(SILENCE_S)
    async with httpx.AsyncClient(
        headers=job.headers, timeout=timeout, limits=limits, trust_env=False
    ) as http:
        cpu, own = cpu_seconds(job.pids), time.process_time()
        began = time.perf_counter()
        answers = await (_open_loop(http, job) if job.rate else _closed_loop(http, job))
        wall = time.perf_counter() - began
        return Round(answers, wall, cpu_seconds(job.pids) - cpu, time.process_time() - own)


async def _open_loop(http: httpx.AsyncClient, job: Job) -> list[Answered]:
    start = time.perf_counter()

    async def one(body: dict[str, Any], due: float) -> Answered:
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        return await _ask(http, job.url, body, start + due)

    times = due_times(len(job.bodies), job.rate, job.seed)
    return await asyncio.gather(*[one(*pair) for pair in zip(job.bodies, times, strict=True)])


async def _closed_loop(http: httpx.AsyncClient, job: Job) -> list[Answered]:
    places = asyncio.Semaphore(job.at_once)

    async def one(body: dict[str, Any]) -> Answered:
        async with places:
            return await _ask(http, job.url, body, time.perf_counter())

    return await asyncio.gather(*[one(body) for body in job.bodies])


async def _ask(http: httpx.AsyncClient, url: str, body: dict[str, Any], due: float) -> Answered:
    """One request, due at that time of the performance counter."""
    usage: dict[str, Any] = {}
    times: list[float] = []
    whole = False
    try:
        async with http.stream("POST", url, json=body) as answer:
            status = answer.status_code
            kind = answer.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):  # of a refusal, or of what streams nothing
                data = json.loads(await answer.aread())
                usage, whole = data.get("usage") or {}, status == 200
            else:
                async for event in _events(answer):
                    if event is None:
                        whole = True
                        break
                    usage = event.get("usage") or usage
                    if any(c["delta"].get("content") for c in event.get("choices", ())):
                        times.append(time.perf_counter() - due)
    except (httpx.HTTPError, ValueError):
        status = 0
    end = time.perf_counter() - due
    return Answered(
        status if whole or status != 200 else 0,
        times[0] if times else end,
        end,
        [b - a for a, b in zip(times, times[1:], strict=False)],
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
    )


async def _events(answer: httpx.Response) -> AsyncIterator[dict[str, Any] | None]:
    """Each event of a stream; None for the mark at its end."""
    async for line in answer.aiter_lines():
        if line.startswith("data:"):
            data = line.removeprefix("data:").strip()
            yield None if data == "[DONE]" else json.loads(data)


def statuses(answers: Sequence[Answered]) -> dict[int, int]:
    """How many answers had each status."""
    found: dict[int, int] = {}
    for answer in answers:
        found[answer.status] = found.get(answer.status, 0) + 1
    return found


def main() -> None:
    """Standard input to standard output."""
    job = Job(**json.load(sys.stdin))
    click.echo(json.dumps(asdict(asyncio.run(send_all(job)))))


if __name__ == "__main__":
    main()
