"""Samples from webdataset shards: photographs with captions, labels or questions."""

import json
import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import webdataset as wds

from sparse_encoder.errors import SparsightError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One photograph as stored, with what is known of it."""

    key: str
    image: bytes  # the file's bytes, not decoded
    captions: tuple[str, ...] = ()
    label: str | None = None
    detail: str | None = None  # a finer label, where the set has one
    category: str | None = None  # the set's own class id
    qa: tuple[tuple[str, str], ...] = ()  # (question, answer)
    captions_by_rule: bool = False  # not written by a person


def find_shards(data: Path, *patterns: str) -> list[Path]:
    """Shards below `data` that match any glob, sorted; refuses when one pattern finds nothing."""
    found: list[Path] = []
    for pattern in patterns:
        shards = sorted(data.glob(pattern))
        if not shards:
            raise SparsightError(
                f"no shard matches {pattern!r} in {data}; expected webdataset tar files there "
                "(give the folder of the data sets with --data)",
                param="data",
            )
        found += shards
    return found


def refuse_no_archive(shard: Path, param: str) -> None:
    """Raises SparsightError for a file that is not even the beginning of a tar file.

    `read_samples` would log it and go on, as it should with one of a thousand shards in a long
    training; who names a few files wants to know.
    """
    try:
        is_archive = tarfile.is_tarfile(shard)
    except OSError as error:
        raise SparsightError(
            f"cannot read {shard}: {error}; expected a webdataset tar file", param=param
        ) from error
    if not is_archive:
        raise SparsightError(
            f"{shard} is no tar file; expected a webdataset shard, KEY.jpg beside KEY.json in a tar",
            param=param,
            code="bad_shard",
        )


def read_samples(shards: Sequence[Path]) -> Iterator[Sample]:
    """Every sound sample of the shards, in order. Broken ones are logged and left out."""
    for shard in shards:
        pipeline = wds.WebDataset(
            str(shard),
            shardshuffle=False,
            empty_check=False,
            handler=_skip(shard),
            nodesplitter=None,  # each of several processes reads all, where webdataset refuses
        )
        for raw in pipeline:
            sample = _sample(raw, shard)
            if sample is not None:
                yield sample


def _skip(shard: Path) -> Any:
    def handler(error: Exception) -> bool:
        log.warning("%s: a sample is left out: %s", shard, error)
        return True

    return handler


def _sample(raw: dict[str, Any], shard: Path) -> Sample | None:
    try:
        meta = json.loads(raw["json"])
        return Sample(
            key=str(raw["__key__"]),
            image=raw["jpg"],
            captions=tuple(c.strip() for c in meta.get("captions", ()) if c.strip()),
            label=meta.get("label"),
            detail=meta.get("detail"),
            category=meta.get("class"),
            qa=tuple((q["question"], q["answer"]) for q in meta.get("qa", ())),
            captions_by_rule="captions_are" in meta,
        )
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        log.warning("%s: sample %s is left out: %r", shard, raw.get("__key__"), error)
        return None
