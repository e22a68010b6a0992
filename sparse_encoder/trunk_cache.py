"""Trunk outputs kept on disk, so that frozen trunks run once over a data set, not once an epoch.

One file a shard, named by the trunk and the shard's bytes; a run that was stopped goes on with the
first shard that has none. Files are memory-mapped: only the rows of a batch are read.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sparse_encoder.dataset import Sample, read_samples
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import ImageError, decode_image
from sparse_encoder.parts import cache_dir
from sparse_encoder.precision import bf16_is_fast
from sparse_encoder.wheel import file_sha256
from sparse_encoder.whole_file import replace_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedImages:
    """Samples with the trunk's cells; `samples[i]` has `cells(i)`. Image bytes are dropped."""

    samples: list[Sample]
    blocks: list[NDArray[np.float16]]  # one a shard, (images, cells, width), memory-mapped
    starts: list[int]  # first sample of each block

    def __len__(self) -> int:
        return len(self.samples)

    def cells(self, i: int) -> Tensor:
        """Trunk cells of image i, (cells, width) float32."""
        block = int(np.searchsorted(self.starts, i, side="right")) - 1
        return torch.from_numpy(np.array(self.blocks[block][i - self.starts[block]])).float()

    def pooled(self) -> Tensor:
        """Mean of the cells of every image, (images, width) float32."""
        return torch.cat(
            [torch.stack([_row(b, i).mean(0) for i in range(len(b))]) for b in self.blocks]
        )

    def windows(self, generator: np.random.Generator, smallest: int = 5) -> Tensor:
        """Mean over one random window of cells for each image, (images, width).

        A crop for free: the trunk does not run again. The window's sides are at least `smallest`
        cells, or a little over half the grid where that is larger than the grid.
        """
        out = []
        for block in self.blocks:
            side = int(block.shape[1] ** 0.5)
            least = min(smallest, side // 2 + 1)
            for i in range(len(block)):
                high, wide = generator.integers(least, side + 1, 2)
                top = generator.integers(0, side - high + 1)
                left = generator.integers(0, side - wide + 1)
                cells = _row(block, i).view(side, side, -1)
                out.append(cells[top : top + high, left : left + wide].mean((0, 1)))
        return torch.stack(out)


def cached_images(
    shards: Sequence[Path], trunk: Any, name: str, *, cache: Path | None = None
) -> CachedImages:
    """Cells of every readable photograph of the shards, computed where they are not cached yet.

    trunk: has `preprocess`, `forward` (to (batch, cells, width)) and `width`. name: of the trunk.
    Raises SparsightError where no shard has a readable photograph.
    """
    samples: list[Sample] = []
    blocks, starts = [], []
    for shard in tqdm(shards, desc="trunk outputs", unit="shard", delay=1):
        found = cached_shard(shard, trunk, name, cache=cache)
        if found is not None:
            starts.append(len(samples))
            samples += found.samples
            blocks += found.blocks
    if not samples:
        raise SparsightError(
            f"no readable photograph in {len(shards)} shards, {shards[0] if shards else 'none'} "
            "first; expected tar files with KEY.jpg beside KEY.json",
            param="data",
        )
    return CachedImages(samples, blocks, starts)


def cached_shard(
    shard: Path, trunk: Any, name: str, *, cache: Path | None = None
) -> CachedImages | None:
    """`cached_images` of one shard; None, with a warning, where it has no readable photograph."""
    home = _home(cache)
    samples, images = _readable(shard)
    if not samples:
        log.warning("%s: no readable photograph, the shard is left out", shard)
        return None
    path = home / f"{name}-{file_sha256(shard)[:16]}.npy"
    if not path.exists():
        _write(path, _cells_of(images, trunk, shard.name))
    block = np.load(path, mmap_mode="r")
    if len(block) != len(samples):
        raise SparsightError(f"{path} does not fit {shard}; delete it and run again")
    return CachedImages(samples, [block], [0])


def cached_texts(
    texts: Sequence[str], trunk: Any, name: str, *, fast: bool = False, cache: Path | None = None
) -> Tensor:
    """Pooled text vectors (texts, width) float16, computed where they are not cached yet.

    fast: in bf16 where the processor is quick at it; for texts whose codes get noise anyway.
    """
    home = _home(cache)
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    path = home / f"{name}-{digest}.npy"
    if not path.exists():
        block = 2048
        starts = tqdm(range(0, len(texts), block), desc="text vectors", unit="block", delay=1)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast and bf16_is_fast()):
            parts = [trunk(texts[i : i + block]).half().numpy() for i in starts]
        _write(path, np.concatenate(parts))
    return torch.from_numpy(np.load(path))


def _home(cache: Path | None) -> Path:
    home = (cache or cache_dir()) / "trunk_outputs"
    home.mkdir(parents=True, exist_ok=True)
    return home


def _readable(shard: Path) -> tuple[list[Sample], list[bytes]]:
    found, images = [], []
    for sample in read_samples([shard]):
        try:
            decode_image(sample.image)
        except ImageError as error:
            log.warning("%s: photograph %s is left out: %s", shard, sample.key, error)
            continue
        found.append(replace(sample, image=b""))
        images.append(sample.image)
    return found, images


def _cells_of(images: Iterable[bytes], trunk: Any, what: str) -> NDArray[np.float16]:
    out = []
    for data in tqdm(list(images), desc=what, unit="image", leave=False):
        cells = trunk(trunk.preprocess([decode_image(data).pixels]))[0]
        out.append(cells.half().numpy())
    return np.stack(out)


def _row(block: NDArray[np.float16], i: int) -> Tensor:
    return torch.from_numpy(np.array(block[i])).float()


def _write(path: Path, array: NDArray[np.float16]) -> None:
    """Whole or not at all: a half-written cache would train on garbage."""

    def write(aside: Path) -> None:
        with aside.open("wb") as file:  # by name numpy would add its own ending
            np.save(file, array)

    replace_file(path, write)
