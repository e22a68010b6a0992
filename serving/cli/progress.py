"""What a long start is doing, on standard error."""

import sys
from collections.abc import Callable
from typing import Any

import click


class StderrProgress:
    """Called with what is being done and the share done, [0, 1] or None where it is not known.

    A bar on a terminal; elsewhere one line for each thing, so that logs stay short. Leaving its
    ``with`` block closes it.
    """

    def __init__(self) -> None:
        self._what: str | None = None
        self._bar: Any = None

    def __enter__(self) -> "StderrProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, what: str, share: float | None) -> None:
        if what != self._what:
            self.close()
            self._what = what
            if sys.stderr.isatty():
                from tqdm import tqdm

                form = "{desc} |{bar}| {percentage:3.0f} % {elapsed}"
                self._bar = tqdm(total=1.0, desc=what, bar_format=form, file=sys.stderr)
            else:
                click.echo(f"{what} ...", err=True)
        if self._bar is not None and share is not None:
            self._bar.n = share
            self._bar.refresh()

    def close(self) -> None:
        """Leaves the last bar as it stands and ends its line."""
        if self._bar is not None:
            self._bar.close()
        self._bar = self._what = None


def loading(model: str) -> StderrProgress:
    """Says that the model is being loaded, which takes a while, and tells of its parts."""
    click.echo(f"loading {model} ...", err=True)
    from transformers.utils.logging import set_tqdm_hook

    set_tqdm_hook(_without_weights)
    return StderrProgress()


def _without_weights(
    bar: Callable[..., Any], words: tuple[Any, ...], named: dict[str, Any]
) -> object:
    """The bars of transformers, but for those of weights on the disk, which are over in a blink."""
    if named.get("desc") == "Loading weights":
        named = {**named, "disable": True}
    return bar(*words, **named)
