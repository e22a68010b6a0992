"""Rounds to bars, a table and JSON."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.serve.bars import Bar
from bench.serve.figures import Figures, Ratio, cpu_per_token, tokens_per_s
from bench.serve.load import Round
from bench.serve.variants import ALONE, LOOP, LOOP_EDITS, TRANSFORMERS, VLLM, Rounds, Variant

STEERED, ALONE_SHARE, LOOP_TIMES = 0.99, 0.95, 4.0  # the bars

Results = Mapping[Variant, Rounds]


def throughput_bars(results: Results, at_once: int) -> list[Bar]:
    """Of the variants that were run. Each compares rounds of one turn."""
    bars: list[Bar] = []
    for engine in (TRANSFORMERS, VLLM):
        plain = Variant(engine)
        if plain not in results:
            continue
        for variant in results:
            if variant.server == engine and variant.n_distinct:
                bars.append(
                    _bar(
                        f"{engine}: {variant.n_distinct} distinct edits against unsteered",
                        STEERED, results, variant, plain,
                    )
                )  # fmt: skip
    if Variant(ALONE) in results:
        bars.append(
            _bar(
                "gateway + vLLM against vLLM alone with as many text tokens",
                ALONE_SHARE, results, Variant(VLLM), Variant(ALONE),
            )
        )  # fmt: skip
    loop = Variant(LOOP, LOOP_EDITS)
    for engine in (TRANSFORMERS, VLLM):
        ours = Variant(engine, LOOP_EDITS)
        if loop in results and ours in results:
            bars.append(
                _bar(
                    f"{engine} against the plain loop, {at_once} at once",
                    LOOP_TIMES, results, ours, loop,
                )
            )  # fmt: skip
    return bars


def _bar(name: str, limit: float, results: Results, ours: Variant, other: Variant) -> Bar:
    above, below = results[ours].full, results[other].full
    ratio = Ratio.of([tokens_per_s(one) for one in above], [tokens_per_s(one) for one in below])
    note = ""
    if all(one.cpu_s > 0 for one in (*above, *below)):
        cpu = Ratio.of([cpu_per_token(one) for one in above], [cpu_per_token(one) for one in below])
        note = f"tokens/s; CPU time a token {cpu.value:.3g}x ({cpu.low:.3g} to {cpu.high:.3g})"
    return Bar.of_ratio(name, "at least", limit, ratio, note)


HEAD = (
    "| variant | load | requests/s | tokens/s | first token p50 / p95 / p99, ms | "
    "between tokens p50 / p95 / p99, ms | CPU share |\n| --- | --- | --- | --- | --- | --- | --- |"
)


def table(results: Results, at_once: int, rate: float) -> str:
    """Markdown; a row for each variant and kind of load."""
    loads = {
        "full": f"{at_once} at once, whole answers",
        "warm": f"{rate:g}/s, photographs seen",
        "cold": f"{rate:g}/s, photographs new",
    }
    rows = [
        _row(variant.name, load, Figures.of(rounds))
        for variant, found in results.items()
        for kind, load in loads.items()
        if (rounds := getattr(found, kind))
    ]
    return "\n".join([HEAD, *rows])


def _row(name: str, load: str, figures: Figures) -> str:
    whole = load.endswith("answers")  # whose first token comes with the last
    failed = f" ({figures.n_failed} of {figures.n_requests} failed)" if figures.n_failed else ""
    cells = (
        name,
        load + failed,
        f"{figures.requests_s:.2f}",
        f"{figures.tokens_s:.1f}",
        "-" if whole else _ms(figures.first_s),
        "-" if whole else _ms(figures.between_s),
        f"{100 * figures.cpu_share:.0f} %",
    )
    return f"| {' | '.join(cells)} |"


def _ms(seconds: Sequence[float]) -> str:
    if any(s != s for s in seconds):  # of what does not stream
        return "-"
    return " / ".join(f"{1000 * s:.0f}" for s in seconds)


def to_json(
    results: Results, bars: Sequence[Bar], settings: Mapping[str, Any], single: Mapping[str, Any]
) -> dict[str, Any]:
    """All that was measured, each round's figures with it."""
    return {
        "machine": machine(),
        "settings": dict(settings),
        "bars": [{**asdict(bar), "met": bar.met, "sure": bar.sure} for bar in bars],
        "single": dict(single),
        "variants": {
            variant.name: {
                kind: {
                    "all": asdict(Figures.of(rounds)),
                    "turns": [asdict(Figures.of([one])) for one in rounds],
                }
                for kind in ("full", "warm", "cold")
                if (rounds := _of(found, kind))
            }
            for variant, found in results.items()
        },
    }


def _of(found: Rounds, kind: str) -> list[Round]:
    rounds: list[Round] = getattr(found, kind)
    return rounds


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was for the last minute."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
        model = names[0] if names else model
    except OSError:
        pass
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }
