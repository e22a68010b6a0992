"""``python -m bench.serve``: throughput, latencies and bars of the server, side by side.

Each variant takes its turn (A B C, C B A, ...) on servers that are all up, so that what else the
machine does meets all of them alike. Requests come from a process of their own. With ``--vllm-python``
also the gateway in front of a vLLM, and that vLLM alone.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from bench.serve.bars import Bar
from bench.serve.load import run_load
from bench.serve.photographs import read_photographs
from bench.serve.report import table, throughput_bars, to_json
from bench.serve.servers import Server, bare_vllm, gateway_before, own_gateway, plain_loop
from bench.serve.single import encodings_of_edits, receipt_ms, sweep_against_requests
from bench.serve.traffic import Traffic
from bench.serve.variants import (
    ALONE,
    LOOP,
    TRANSFORMERS,
    VLLM,
    Measurement,
    Rounds,
    Sizes,
    Variant,
    variants_of,
)
from serving.data_uri import read_image
from vlm.pipeline import Pipeline
from vlm.template import end_of_turn


@contextmanager
def servers_of(
    pipeline: Pipeline, model: str, vllm_python: Path | None, prefix_caching: bool, most: int
) -> Iterator[dict[str, Server]]:
    """All of them, up; ended afterwards, also where this process is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = {TRANSFORMERS: stack.enter_context(own_gateway(model, most, logs / "own.log"))}
        if vllm_python is not None:
            extra = ["--max-num-seqs", "256"]
            extra += [] if prefix_caching else ["--no-enable-prefix-caching"]
            click.echo("starting vLLM", err=True)
            alone = stack.enter_context(bare_vllm(vllm_python, pipeline, logs / "vllm.log", extra))
            front = gateway_before(alone, model, most, logs / "front.log")
            found |= {VLLM: stack.enter_context(front), ALONE: alone}
        found[LOOP] = stack.enter_context(plain_loop(model, logs / "loop.log"))
        yield found


@click.command()
@click.option("--model", default="sparsight-mini", show_default=True)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the data sets, for Flickr8k's held-out photographs.  [default: the demo's four]",
)
@click.option("--photographs", "n_photographs", default=32, show_default=True, help="At most.")
@click.option(
    "--vllm-python",
    envvar="SPARSIGHT_VLLM_PYTHON",
    type=click.Path(exists=True, path_type=Path),
    help="Interpreter that has vLLM; without it, vLLM is left out.",
)
@click.option(
    "--prefix-caching/--no-prefix-caching",
    default=False,
    show_default=True,
    help="vLLM's own: with it, whoever repeats a prompt has less to do.",
)
@click.option(
    "--distinct", default="1,16,64,256", show_default=True, help="Numbers of distinct edits."
)
@click.option("--turns", default=5, show_default=True, help="Rounds of each kind and variant.")
@click.option("--requests", default=256, show_default=True, help="Of a round at full load.")
@click.option("--streams", default=64, show_default=True, help="Of a round at the rate.")
@click.option("--loop-requests", default=32, show_default=True, help="Of the plain loop's, full.")
@click.option(
    "--sweeps",
    default=3,
    show_default=True,
    help="Sweeps of each engine, and as many times 16 requests.",
)
@click.option("--at-once", default=16, show_default=True, help="Requests under way, full load.")
@click.option("--rate", default=0.5, show_default=True, help="Requests/s of the open loop.")
@click.option("--max-tokens", default=24, show_default=True, help="Length of every answer.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Also there.")
def main(
    model: str,
    data: Path | None,
    n_photographs: int,
    vllm_python: Path | None,
    prefix_caching: bool,
    distinct: str,
    turns: int,
    requests: int,
    streams: int,
    loop_requests: int,
    sweeps: int,
    at_once: int,
    rate: float,
    max_tokens: int,
    out: Path | None,
) -> None:
    """Measures the server and prints the figures and the bars."""
    edits = [int(n) for n in distinct.split(",")]
    sizes = Sizes(turns, max(requests, *edits), streams, loop_requests, at_once, rate)
    settings: dict[str, Any] = {
        "model": model, "max_tokens": max_tokens, "prefix_caching": prefix_caching, **vars(sizes),
        "load_average_before": os.getloadavg(),
    }  # fmt: skip
    photographs = read_photographs(data, n_photographs)
    settings["photographs"] = len(photographs)
    pipeline = Pipeline.load(model)
    traffic = Traffic(pipeline.name, photographs, max_tokens, end_of_turn(pipeline.tokenizer))
    most = 4 * max(sizes.n_requests, streams)
    with servers_of(pipeline, model, vllm_python, prefix_caching, most) as servers:
        measurement = Measurement(servers, traffic, sizes, run_load)
        settings["prompt_tokens"] = measurement.prepare()
        results: dict[Variant, Rounds] = {v: Rounds() for v in variants_of(servers, edits)}
        for turn, variant, kind, done in measurement.run(list(results)):
            getattr(results[variant], kind).append(done)
            click.echo(f"turn {turn + 1}, {kind}: {variant.name}, {done.wall_s:.1f} s", err=True)
            if out is not None and all(len(one.full) == turn + 1 for one in results.values()):
                # What is done stays, should the rest not come to its end.
                bars = throughput_bars(results, at_once)
                out.write_text(json.dumps(to_json(results, bars, settings, {}), indent=1))
        bars = throughput_bars(results, at_once)
        single = single_bars(servers, traffic, sweeps, bars)
    single["receipt_ms"] = median, _ = receipt_ms(
        pipeline, read_image(photographs.warm(0), param="photo")
    )
    bars.append(
        Bar.of_value("receipt, made and as JSON", "at most", 1.0, median, "ms", "CPU time, median")
    )
    click.echo(table(results, at_once, rate))
    click.echo()
    for bar in bars:
        click.echo(bar.line())
    if out is not None:
        out.write_text(json.dumps(to_json(results, bars, settings, single), indent=1))


def single_bars(
    servers: dict[str, Server], traffic: Traffic, n_sweeps: int, bars: list[Bar]
) -> dict[str, Any]:
    """Adds the bars that are no throughput; what they were measured from."""
    measured: dict[str, Any] = {}
    for name in (TRANSFORMERS, VLLM):
        if name not in servers:
            continue
        click.echo(f"encodings and sweeps: {name}", err=True)
        first, further = encodings_of_edits(servers[name], traffic)
        ratio, sweeps, singles = sweep_against_requests(servers[name], traffic, n_sweeps)
        measured[name] = {
            "encodings": [first, further], "sweep_s": sweeps, "requests_s": singles,
        }  # fmt: skip
        bars += [
            Bar.of_value(
                f"{name}: encodings for 8 further edits of a photograph", "at most", 0, further, "",
                f"/metrics; {first} for the first edit",
            ),
            Bar.of_ratio(
                f"{name}: a sweep of 16 answers against the 16 requests one by one", "at most",
                0.4, ratio, "time",
            ),
        ]  # fmt: skip
    return measured


if __name__ == "__main__":
    main()
