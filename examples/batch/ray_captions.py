"""Captions over a Ray cluster: ``python ray_captions.py PHOTOS OUT_FOLDER [ACTORS]``.

Needs ``pip install 'ray[data]' sparsight``. PHOTOS is a folder or bucket of photographs, OUT_FOLDER
one for parquet. Each actor holds a model; Ray moves the blocks and starts lost ones again. All that
is done to a block is serving/batch/rows.py, which works, and is tested, without Ray.
"""

import sys

import ray

from serving.batch.rows import CaptionRows

MODEL = "sparsight-mini"


class Captions(CaptionRows):
    """An actor; Ray makes one a process."""

    def __init__(self) -> None:
        loaded = CaptionRows.load(MODEL)
        self.__dict__.update(loaded.__dict__)


if __name__ == "__main__":
    photos, out = sys.argv[1:3]
    n_actors = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    ray.data.read_binary_files(photos, include_paths=True).map_batches(
        Captions, batch_size=64, concurrency=n_actors, num_cpus=2
    ).write_parquet(out)
