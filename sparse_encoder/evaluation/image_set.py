"""One set of photographs as evaluation sees it: samples, trunk vectors, independent embedding."""

import logging
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sparse_encoder.contrastive import unit
from sparse_encoder.dataset import Sample, find_shards, read_samples
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.code_rows import CodeRows
from sparse_encoder.evaluation.evaluated import Evaluated
from sparse_encoder.evaluation.independent_embedding import IndependentEmbedding
from sparse_encoder.image import ImageError, decode_image
from sparse_encoder.trunk_cache import cached_images

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSet:
    """`samples[i]` (without its bytes) has row i of the codes and of the embedding."""

    name: str  # such as "coco/val"
    samples: list[Sample]
    rows: CodeRows
    embedding: Tensor  # (images, width of the embedding), unit rows

    def captions(self) -> tuple[list[str], list[int]]:
        """Every caption, and the place of its photograph. Raises SparsightError for none."""
        texts = [c for s in self.samples for c in s.captions]
        if not texts:
            raise SparsightError(
                f"none of the {len(self.samples)} photographs of {self.name} has a caption; "
                'retrieval needs "captions": [...] in the samples\' JSON',
                param="data",
            )
        return texts, [i for i, s in enumerate(self.samples) for _ in s.captions]


def read_image_set(
    encoder: Evaluated,
    data: Path,
    name: str,
    pattern: str,
    embedding: IndependentEmbedding | None = None,
) -> ImageSet:
    """The set whose shards match `pattern` below `data`; trunk vectors of all of it are held.

    embedding: None for the trunk's own vectors. Raises SparsightError where there is no shard or
    no readable photograph in any.
    """
    found = find_shards(data, pattern)
    shards = [shard for shard in found if _has_image(shard)]
    for empty in set(found) - set(shards):
        log.warning("%s holds no readable photograph and is left out", empty)
    if not shards:
        raise SparsightError(
            f"{name} is empty: none of its {len(found)} shards in {data} holds a readable "
            "photograph; expected KEY.jpg beside KEY.json in each",
            param="data",
        )
    samples, vectors = encoder.read_images(shards)
    judge = vectors
    if embedding is not None:
        cached = cached_images(shards, embedding, embedding.name)
        if [s.key for s in cached.samples] != [s.key for s in samples]:
            raise SparsightError(
                f"{embedding.name} and the encoder read different photographs of {name}; "
                "delete the cached trunk outputs and run again"
            )
        judge = cached.pooled()
    return ImageSet(name, samples, CodeRows(vectors, encoder.image_codes), unit(judge))


def _has_image(shard: Path) -> bool:
    for sample in read_samples([shard]):
        try:
            decode_image(sample.image)
        except ImageError:
            continue
        return True
    return False
