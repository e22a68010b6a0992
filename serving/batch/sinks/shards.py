"""A folder of webdataset shards: photograph, caption and JSON of each result, in journal order.

A sample is written before its line in the journal, so after a kill a shard has at most one sample
too many; the next start cuts it off. NNNNNNNN.json comes last in a sample and makes it whole.
"""

import io
import json
import re
import tarfile
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from serving.batch.journal import Journal
from serving.batch.result import Result
from serving.batch.sinks.full_disk import full_disk_stops
from serving.batch.sinks.sidecar import as_text
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import FORMATS

SAMPLES = 1000  # a shard
SHARD = re.compile(r"shard-(\d{5,})\.tar")
BLOCK = tarfile.BLOCKSIZE


class WebdatasetShards:
    """Raises SparsightError where the folder's samples are not those of the journal."""

    needs_data = True

    def __init__(
        self,
        folder: Path | str,
        journal: Journal,
        *,
        overwrite: bool = False,
        samples: int = SAMPLES,
    ) -> None:
        self._folder = Path(folder)
        self._samples = samples
        self._n = journal.n_done
        self._file: BinaryIO | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check(overwrite)
        except OSError as error:
            raise SparsightError(
                f"{self._folder} cannot be used for shards: {error.strerror or error}",
                param="webdataset",
            ) from error

    def refuses(self, name: str) -> str | None:
        return None

    def before(self, result: Result, data: bytes | None) -> str | None:
        if data is None:
            raise ValueError("shards need the photograph's bytes")
        path = self._path(self._n // self._samples)
        with full_disk_stops(str(path)):
            if self._file is None:
                self._file = path.open("ab")
            self._file.write(self._sample(result, data))
            self._file.flush()
        return None

    def after(self, result: Result) -> None:
        self._n += 1
        if self._n % self._samples == 0:
            self.close()

    def close(self) -> None:
        """Ends the open shard; the next start takes the end off again."""
        if self._file is not None:
            with full_disk_stops(self._file.name), self._file as file:
                file.write(bytes(2 * BLOCK))
            self._file = None

    def _path(self, number: int) -> Path:
        return self._folder / f"shard-{number:05d}.tar"

    def _sample(self, result: Result, data: bytes) -> bytes:
        key = f"{self._n:08d}"
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            kind = (image.format or "").lower().replace("jpeg", "jpg").replace("mpo", "jpg")
        members = {f"{key}.{kind}": data}
        if result.captions:
            members[f"{key}.txt"] = as_text(result.captions).encode("utf-8", "replace")
        members[f"{key}.json"] = json.dumps(result.to_json()).encode("ascii")
        return b"".join(_member(name, content) for name, content in members.items())

    def _check(self, overwrite: bool) -> None:
        """Cuts the last shard to the samples that the journal has."""
        shards = sorted(path for path in self._folder.iterdir() if SHARD.fullmatch(path.name))
        if overwrite:
            for shard in shards:
                shard.unlink()
            return
        n_full, n_rest = divmod(self._n, self._samples)
        for number in range(n_full + (n_rest > 0)):
            n_wanted = self._samples if number < n_full else n_rest
            path = self._path(number)
            if path not in shards:
                raise self._foreign(f"{path.name} is not there")
            if number < n_full - 1:
                continue  # full and followed by another: nothing was written to it since
            ends = _sample_ends(path)
            if len(ends) < n_wanted:
                raise self._foreign(f"{path.name} has {len(ends)} of {n_wanted} samples")
            with path.open("r+b") as file:
                file.truncate(ends[n_wanted - 1])
                if n_wanted == self._samples:
                    file.seek(0, io.SEEK_END)
                    file.write(bytes(2 * BLOCK))
        for shard in shards[n_full + (n_rest > 0) :]:
            if shard != self._path(n_full) or not _holds_only(shard, f"{self._n:08d}"):
                raise self._foreign(f"{shard.name} has samples that --out has not")
            shard.unlink()  # one sample or part of it, written just before the kill

    def _foreign(self, why: str) -> SparsightError:
        return SparsightError(
            f"{self._folder} does not go with --out: {why}; choose another folder and another "
            "--out, or --force to start both anew",
            param="webdataset",
            code="other_recipe",
        )


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)


def _holds_only(path: Path, key: str) -> bool:
    """Whether a shard is at most one sample of that key, whole or cut anywhere."""
    name = f"{key}.".encode()  # a header begins with the member's name
    with path.open("rb") as file:
        begin = file.read(len(name))
    return name.startswith(begin) and len(_sample_ends(path)) <= 1


def _sample_ends(path: Path) -> list[int]:
    """Where each whole sample of a shard ends, in bytes; a damaged rest is passed over."""
    size, ends = path.stat().st_size, []
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                end = member.offset_data + member.size + -member.size % BLOCK
                if member.name.endswith(".json") and end <= size:
                    ends.append(end)
    except tarfile.TarError:
        pass
    return ends
