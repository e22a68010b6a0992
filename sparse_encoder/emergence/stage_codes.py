"""The codes of one image set at one stage, kept on disk shard by shard, and what they tell."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.dataset import Sample
from sparse_encoder.emergence.stages import Stage
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.evaluated import Evaluated
from sparse_encoder.features.running_topk import RunningTopK
from sparse_encoder.features.shard_codes import BATCH, texts_of
from sparse_encoder.features.state import Arrays, BuildState


@dataclass
class StageCodes:
    """Codes of the shards' images at one stage. Images are numbered over all shards."""

    stage: Stage
    state: BuildState
    shards: Sequence[Path]
    encoder: Evaluated

    @property
    def n_features(self) -> int:
        return self.encoder.features

    def shard(self, i: int) -> Arrays:
        """index, value, offset of the global codes; keys and texts of the images."""
        return self.state.once(f"codes-{self.stage.step}-{i}", lambda: self._make(i))

    def batches(self) -> Iterator[Codes]:
        """Global codes of at most BATCH images, in order."""
        for i in range(len(self.shards)):
            kept = self.shard(i)
            offset = torch.from_numpy(kept["offset"])
            for start in range(0, len(offset) - 1, BATCH):
                part = offset[start : start + BATCH + 1]
                lo, hi = int(part[0]), int(part[-1])
                yield Codes(
                    torch.from_numpy(kept["index"][lo:hi].astype(np.int64)),
                    torch.from_numpy(kept["value"][lo:hi]),
                    part - lo,
                    self.n_features,
                )

    def _make(self, i: int) -> Arrays:
        samples, vectors = _read(self.encoder, self.shards[i])
        parts = vectors.split(BATCH) if samples else ()
        blocks = [_sparse(self.encoder.image_codes(rows), self.stage) for rows in parts]
        codes = Codes.cat(blocks) if blocks else Codes.from_dense(torch.zeros(0, self.n_features))
        return {
            "index": codes.index.numpy().astype(np.int32),
            "value": codes.value.numpy(),
            "offset": codes.offset.numpy(),
            "keys": np.array([s.key for s in samples], dtype=np.str_),
            "texts": np.array(["\n".join(texts_of(s)) for s in samples], dtype=np.str_),
        }


def measure_stage(codes: StageCodes, k: int) -> Arrays:
    """What one pass over the images tells of each feature.

    n_images; count (features,) images with the feature active; mean (features,) activation over all
    images; deviation the same; top_image, top_activation (features, k), -1 and 0 where there are
    fewer. Holds a few times features x k, whatever the number of images.
    """
    n = codes.n_features
    count = torch.zeros(n, dtype=torch.int64)
    total, squares = (torch.zeros(n, dtype=torch.float64) for _ in range(2))
    top, seen = RunningTopK(n, k), 0
    for batch in codes.batches():
        count += torch.bincount(batch.index, minlength=n)
        total.index_add_(0, batch.index, batch.value.double())
        squares.index_add_(0, batch.index, batch.value.double().square())
        dense = batch.dense().T  # (features, batch)
        top.add(
            dense.masked_fill(dense <= 0, -torch.inf), torch.arange(seen, seen + batch.n_images)
        )
        seen += batch.n_images
    mean = total / max(seen, 1)
    variance = squares / max(seen, 1) - mean.square()
    # Of a feature that is equal on all images rounding leaves some variance, and no correlation.
    steady = variance <= 1e-12 * (squares / max(seen, 1)).clamp(min=1e-30)
    return {
        "n_images": np.array(seen),
        "count": count.numpy(),
        "mean": mean.numpy(),
        "deviation": torch.where(steady, 0.0, variance.clamp(min=0).sqrt()).numpy(),
        "top_image": top.index.numpy(),
        "top_activation": torch.where(top.index >= 0, top.value, 0.0).numpy(),
    }


def _read(encoder: Evaluated, shard: Path) -> tuple[list[Sample], Tensor]:
    """Samples and trunk vectors; none for a shard without a readable photograph."""
    try:
        return encoder.read_images([shard])
    except SparsightError as error:
        if error.param != "data":  # of a frozen trunk's cache, where no photograph can be read
            raise
        return [], torch.zeros(0, 1)


def _sparse(code: Tensor, stage: Stage) -> Codes:
    code = code.float().cpu()
    if not bool(code.isfinite().all()) or bool((code < 0).any()):
        kind = "negative entries" if bool(code.isfinite().all()) else "entries that are no number"
        raise SparsightError(
            f"the codes of {stage.folder} have {kind}: a dense or a broken encoder has no features "
            "to watch; give the run of a sparse one",
            param="run",
        )
    return Codes.from_dense(code)
