"""The shards of a pretraining run: paths and addresses with braces, or all of a data folder."""

from collections.abc import Sequence
from pathlib import Path

import braceexpand

from sparse_encoder.dataset import find_shards
from sparse_encoder.errors import SparsightError
from sparse_encoder.train import SHARDS


def training_shards(data: Path | None, patterns: Sequence[str]) -> list[str]:
    """Names of all shards: `patterns` with their braces written out, or those in `data`.

    A pattern with ``://`` is an address. Raises SparsightError where a path does not exist, or
    neither is given.
    """
    if not patterns:
        if data is None:
            raise SparsightError(
                "no shards to train on; give --shards PATH or URL, or --data with the data sets",
                param="shards",
            )
        return [str(path) for path in find_shards(data, *SHARDS)]
    return shard_names(patterns)


def shard_names(patterns: Sequence[str], param: str = "shards") -> list[str]:
    """Names of all shards of `patterns`, with their braces written out.

    param: the option that they came from, for errors. Raises SparsightError as `training_shards`.
    """
    names = [name for pattern in patterns for name in _written_out(pattern, param)]
    missing = [name for name in names if "://" not in name and not Path(name).is_file()]
    if missing:
        raise SparsightError(
            f"{len(missing)} of {len(names)} shards do not exist, {missing[0]} among them; expected "
            "tar files, or addresses",
            param=param,
        )
    return names


def _written_out(pattern: str, param: str) -> list[str]:
    try:
        return list(braceexpand.braceexpand(pattern))
    except ValueError as error:  # braces that do not close
        raise SparsightError(f"cannot read the shards {pattern!r}: {error}", param=param) from error
