"""From a slider's step to the first changed word on the screen: ``python -m bench.page``.

A real browser on the real page: the time is taken by the page itself, from the slider's event to the
frame in which the first word stands that the unsteered caption does not have there. In it are the
page's wait for the slider's next step, the request with the whole photograph, the queue, editing and
projecting the code, and the language model up to that word. The photograph was encoded before.

Beside it stands the same request from Python over an open connection up to its first word, changed or
not: what is below that is the model's, what is above the page's and the later words'.
"""

import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
import httpx

from demo.example_photos import example_photos
from serving.launch import address, bind

AIM_S = 0.5
DOSES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.25)  # p99 of dog, in turn, with the cat taken out
PROMPT = "Describe the image in one sentence."
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# The move, and a wait for the whole answer to it: what the page holds is another object then.
MOVE = """async ([label, value]) => {
    const {answers} = await import('/demo/page/generation.js');
    const before = answers.steered;
    delete document.querySelector('#sparsight').dataset.firstWordMs;
    const slider = document.querySelector(`input[aria-label="${label}"]`);
    slider.value = value;
    slider.dispatchEvent(new Event('input'));
    const now = () => answers.steered;
    while (now() === before || now()?.stale || !now()?.whole)
        await new Promise(resolve => setTimeout(resolve, 20));
}"""


@click.command()
@click.option(
    "--api", help="A gateway that runs already, with the page.  [default: one is started]"
)
@click.option("--moves", default=18, show_default=True, help="Steps of the slider.")
@click.option("--chromium", envvar="SPARSIGHT_CHROMIUM", help="The browser.  [default: found]")
def main(api: str | None, moves: int, chromium: str | None) -> None:
    """Prints median and 90th percentile, with the machine's load."""
    path = chromium or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        raise click.ClickException(
            "no Chromium found; apt-get install chromium, or --chromium PATH"
        )
    try:
        if api is not None:
            measure(api.rstrip("/"), path, moves)
            return
        with started() as url:
            measure(url, path, moves)
    except httpx.HTTPError as error:
        raise click.ClickException(f"no answer from the gateway: {error}") from None


def measure(url: str, chromium: str, moves: int) -> None:
    """Both series, and what they mean."""
    load = os.getloadavg()[0]
    doses = [DOSES[i % len(DOSES)] for i in range(moves)]
    # The first few warm what is kept: the photograph's codes, the concepts' text codes.
    model = first_pieces(url, doses[:3]) and first_pieces(url, doses)
    page = first_changed_words(url, chromium, doses)
    if not page:
        raise click.ClickException("no caption changed, so there is nothing to time")
    cores = len(os.sched_getaffinity(0))
    click.echo(f"{cores} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after")
    click.echo(f"first word over HTTP, from Python      {describe(model)}")
    click.echo(f"slider to first changed word, browser  {describe(page)}, {len(page)} of {moves}")
    verdict = "under" if statistics.median(page) < AIM_S else "NOT under"
    click.echo(f"the median is {verdict} {AIM_S} s")


def describe(seconds: list[float]) -> str:
    ninth = statistics.quantiles(seconds, n=10)[-1] if len(seconds) > 1 else seconds[0]
    return f"median {statistics.median(seconds):.2f} s, p90 {ninth:.2f} s"


def first_pieces(url: str, doses: list[float]) -> list[float]:
    """Seconds to the first text of a steered stream, for each dose."""
    photo = base64.b64encode(example_photos()[0].read_bytes()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{photo}"}},
        {"type": "text", "text": PROMPT},
    ]
    out = []
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
        model = client.get("/v1/models").json()["data"][0]["id"]
        for dose in doses:
            edits = [
                {"concept": "cat", "op": "ablate"},
                {"concept": "dog", "op": "clamp", "value": dose},
            ]
            body = {
                "model": model,
                "stream": True,
                "messages": [{"role": "user", "content": content}],
                "steering": {"edits": edits},
            }
            since = time.perf_counter()
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                answer.raise_for_status()
                first = None
                for line in answer.iter_lines():  # to its end: the next one shall not wait for it
                    if first is None and _has_text(line):
                        first = time.perf_counter() - since
                if first is not None:
                    out.append(first)
    return out


def _has_text(line: str) -> bool:
    """Whether a line of the stream is an event with some of the answer's text."""
    if not line.startswith("data: {"):
        return False
    choices = json.loads(line.removeprefix("data: "))["choices"]
    return any(choice["delta"].get("content") for choice in choices)


def first_changed_words(url: str, chromium: str, doses: list[float]) -> list[float]:
    """Seconds by the page's own clock, of those steps that changed a word."""
    from playwright.sync_api import sync_playwright

    out = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(300_000)
        page.goto(f"{url}/demo/")
        page.wait_for_selector("#unsteered:not(.growing):not(.stale) .word")
        box = page.get_by_role("combobox", name="Add a concept")
        box.fill("cat=0, dog=0.5")
        box.press("Enter")
        page.wait_for_selector("#steered:not(.growing):not(.stale) .word")
        for dose in doses:
            page.evaluate(MOVE, ["dog, dose in p99", dose])
            page.wait_for_timeout(100)  # the clock is read a frame later
            shown = page.locator("#sparsight").get_attribute("data-first-word-ms")
            if shown is not None:
                out.append(float(shown) / 1000)
        browser.close()
    return out


@contextmanager
def started() -> Iterator[str]:
    """The address of a server of its own, as `make run` starts it."""
    probe = bind("127.0.0.1", 0)
    url, port = address(probe), probe.getsockname()[1]
    probe.close()
    command = [sys.executable, "-m", "serving.cli.main", "serve", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 600
        while server.poll() is None and time.monotonic() < until:
            try:
                if httpx.get(f"{url}/ready", trust_env=False).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        if server.poll() is not None:
            raise click.ClickException("the server did not start; `sparsight serve` says why")
        yield url
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
