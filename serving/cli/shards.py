"""Shards as an option takes them: paths and globs."""

from collections.abc import Sequence
from pathlib import Path

import click


def find_shard_files(patterns: Sequence[str], option: str) -> list[Path]:
    """All files that match, each once; a misuse of `option` where a pattern matches none.

    Raises SparsightError for a file that is no tar file.
    """
    from glob import glob

    from sparse_encoder.dataset import refuse_no_archive

    found: list[Path] = []
    for pattern in patterns:
        shards = sorted(Path(path) for path in glob(pattern))
        if not shards:
            raise click.BadParameter(
                f"no file matches {pattern!r}; expected webdataset tar files", param_hint=option
            )
        for shard in shards:
            refuse_no_archive(shard, param=option)
        found += shards
    return list(dict.fromkeys(found))
