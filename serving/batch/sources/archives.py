"""Photographs in zip and tar archives; a webdataset shard is a tar.

Members are read in order, each named ARCHIVE/MEMBER. A damaged archive gives what comes before the
damage, then one item that says what is wrong.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serving.batch.fetch import open_binary
from serving.batch.item import Item
from serving.batch.reading import LIMITS
from serving.photo_files import SUFFIXES
from sparse_encoder.errors import SparsightError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError,
    RuntimeError,  # a member with a password
)  # fmt: skip


def _is_photo(member: str) -> bool:
    base = member.rsplit("/", 1)[-1]
    return base.lower().endswith(SUFFIXES) and not base.startswith(".")


@dataclass(frozen=True)
class ZipArchive:
    path: str

    def count(self) -> int | None:
        try:
            with open_binary(self.path) as file, zipfile.ZipFile(file) as archive:
                return max(1, sum(map(_is_photo, archive.namelist())))
        except (*_DAMAGE, SparsightError):
            return 1

    def has_any(self) -> bool:
        return True

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        n_found = 0
        try:
            with open_binary(self.path) as file, zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    if not _is_photo(entry.filename):
                        continue
                    n_found += 1
                    name = f"{self.path}/{entry.filename}"
                    if wanted(name):
                        yield self._member(archive, entry, name)
        except (*_DAMAGE, SparsightError) as error:
            yield from _broken(self.path, error, n_found, wanted)
            return
        if not n_found:
            yield from _none(self.path, wanted)

    def _member(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Item:
        try:
            with archive.open(entry) as file:
                return Item(name, data=file.read(LIMITS.max_bytes + 1))
        except _DAMAGE as error:  # of this member alone; the directory tells where the next lies
            return Item(name, error=f"damaged in its archive ({error})")


@dataclass(frozen=True)
class TarArchive:
    """Also compressed. Read as a stream, so that it may be remote."""

    path: str

    def count(self) -> int | None:
        return None

    def has_any(self) -> bool:
        return True

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        n_found = 0
        try:
            with open_binary(self.path) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
                for entry in archive:
                    if not (entry.isfile() and _is_photo(entry.name)):
                        continue
                    content = archive.extractfile(entry)
                    name = f"{self.path}/{entry.name}"
                    if content is not None and wanted(name):
                        data = content.read(LIMITS.max_bytes + 1)
                        if len(data) < min(entry.size, LIMITS.max_bytes):
                            raise EOFError(f"{entry.name} ends early")
                        yield Item(name, data=data)
                    n_found += 1
        except (*_DAMAGE, SparsightError) as error:
            yield from _broken(self.path, error, n_found, wanted)
            return
        if not n_found:
            yield from _none(self.path, wanted)


def _broken(
    path: str, error: Exception, n_found: int, wanted: Callable[[str], bool]
) -> Iterator[Item]:
    if not wanted(path):
        return
    if isinstance(error, SparsightError):  # it could not be opened at all
        yield Item(path, error=error.message)
        return
    why = str(error) or type(error).__name__
    yield Item(
        path,
        error=f"truncated or damaged after {n_found:,} photographs ({why}); what follows is lost",
    )


def _none(path: str, wanted: Callable[[str], bool]) -> Iterator[Item]:
    if wanted(path):
        yield Item(
            path,
            error=f"no photographs in this archive; looked for files ending in "
            f"{', '.join(SUFFIXES)}",
        )
