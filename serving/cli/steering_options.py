"""What the commands of ``sparsight steering`` share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def doses_option(default: str, more: str) -> Callable[[F], F]:
    """``--doses``, in p99; None where it is not given, `default` says what is tried then."""
    return click.option(
        "--doses",
        callback=_read_doses,
        metavar="LIST",
        help=f"In multiples of each feature's 99th percentile (p99), with commas between them. "
        f"{more}  [default: {default}]",
    )


def _read_doses(
    _: click.Context, param: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no list of doses such as 0.5,1,2", param=param
        ) from None
