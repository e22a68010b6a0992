"""What a build has done so far, on disk: files that appear whole or not at all."""

import io
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import write_whole

Arrays = Mapping[str, NDArray[Any]]


class BuildState:
    """A folder of named arrays, one folder for each set of inputs, named by their digest."""

    def __init__(self, out: Path, digest: str) -> None:
        self.folder = out / f".build-{digest[:16]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SparsightError(
                f"cannot write to {out}: {error}; choose another folder", param="out"
            ) from error

    def get(self, name: str) -> Arrays | None:
        """What was put under the name; None where nothing was, or the file is damaged."""
        try:
            content = (self.folder / f"{name}.npz").read_bytes()
            with np.load(io.BytesIO(content)) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None  # made again

    def put(self, name: str, arrays: Arrays) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_whole(self.folder / f"{name}.npz", buffer.getbuffer())

    def once(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """What is under the name, made where it is not."""
        found = self.get(name)
        if found is None:
            found = make()
            self.put(name, found)
        return found

    def remove(self) -> None:
        shutil.rmtree(self.folder)
