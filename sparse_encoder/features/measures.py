"""All that one pass over the reference images tells of every feature, in memory that stays flat."""

from collections.abc import Iterable

import numpy as np
import torch

from sparse_encoder.atlas_build import ImageStats
from sparse_encoder.codes import Codes
from sparse_encoder.evaluation.clarity import ClarityStats
from sparse_encoder.evaluation.monosemanticity import MonoSemanticityStats
from sparse_encoder.features.running_topk import RunningTopK
from sparse_encoder.features.shard_codes import ShardCodes
from sparse_encoder.features.state import Arrays


def measure_images(shards: Iterable[ShardCodes], n_features: int, k: int) -> Arrays:
    """Arrays of (features,) but for the top images, (features, k), -1 where there are fewer.

    Means and percentiles are of the non-zero global activations, raw units. Images are numbered
    over all shards. Holds a few times features x embedding width, whatever the number of images.
    """
    stats, top = ImageStats(n_features), RunningTopK(n_features, k)
    judges: tuple[ClarityStats, MonoSemanticityStats] | None = None
    for shard in shards:
        for code, embedding, _ in shard.batches():
            number = torch.arange(stats.n_images, stats.n_images + len(code))
            top.add(code.T.masked_fill(code.T <= 0, -torch.inf), number)
            stats.add(Codes.from_dense(code))
            if judges is None:
                width = embedding.shape[1]
                judges = ClarityStats(n_features, width), MonoSemanticityStats(n_features, width)
            for judge in judges:
                judge.add(code, embedding)
    nothing = torch.full((n_features,), torch.nan)
    clarity, alike = (j.scores() for j in judges) if judges else (nothing, nothing)
    return {
        "n_images": np.array(stats.n_images),
        "image_mean": (stats.total / max(stats.n_images, 1)).numpy(),
        "density": (stats.count / max(stats.n_images, 1)).float().numpy(),
        "mean": (stats.total / stats.count.clamp(min=1)).float().numpy(),
        **{f"p{q}": stats.percentile(q / 100).numpy() for q in (50, 90, 99)},
        "max": stats.max.numpy(),
        "clarity": clarity.float().numpy(),
        "monosemanticity": alike.float().numpy(),
        "top_image": top.index.numpy(),
        "top_activation": torch.where(top.index >= 0, top.value, 0.0).numpy(),
    }
