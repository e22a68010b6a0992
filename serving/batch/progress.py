"""How far a run is: a bar on a terminal, a line a minute in a log."""

import sys
import time
from collections.abc import Iterable, Iterator

import click

from serving.batch.result import Result

EVERY_S = 60.0


def with_progress(results: Iterable[Result], total: int | None) -> Iterator[Result]:
    """The results as they come; standard error shows rate, time left and failures.

    total: results to come; None where nobody knows.
    """
    if total is not None and total < 2:
        yield from results
    elif sys.stderr.isatty():
        yield from _bar(results, total)
    else:
        yield from _lines(results, total)


def _bar(results: Iterable[Result], total: int | None) -> Iterator[Result]:
    from tqdm import tqdm

    n_failed = 0
    with tqdm(total=total, unit="photo") as bar:
        for result in results:
            with tqdm.external_write_mode():  # or lines and bar would share a row of the terminal
                yield result
            n_failed += result.error is not None
            if n_failed:
                bar.set_postfix(failed=n_failed, refresh=False)
            bar.update()


def _lines(results: Iterable[Result], total: int | None) -> Iterator[Result]:
    began = said = time.monotonic()
    n_failed = 0
    for n, result in enumerate(results, 1):
        n_failed += result.error is not None
        yield result
        now = time.monotonic()
        if now - said >= EVERY_S:
            said = now
            click.echo(line(n, n_failed, now - began, total), err=True)


def line(n: int, n_failed: int, seconds: float, total: int | None) -> str:
    """Such as ``1,200 of 9,000 photographs, 3.4/s, 38 min left, 2 failed``."""
    rate = n / seconds if seconds > 0 else 0.0
    of = "" if total is None else f" of {total:,}"
    words = [f"{n:,}{of} photographs", f"{rate:.2g}/s"]
    if total is not None and rate > 0:
        words.append(f"{max(0, total - n) / rate / 60:.0f} min left")
    return ", ".join([*words, f"{n_failed:,} failed"])
