"""Where ``sparsight caption`` runs its model: here, on a Ray cluster, or behind gateways."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli.caption_options import Asked
from serving.cli.options import load_pipeline, read_steer_from

if TYPE_CHECKING:
    from serving.batch.engine import Engine
    from vlm.steer_from import SteerFrom

MAX_WORKERS = 4  # by default; a fifth reader has nothing to do beside a model on the same cores
KEY = "SPARSIGHT_API_KEY"


@dataclass(frozen=True)
class Place:
    """The engine, and what a plan has to know of its model."""

    engine: "Engine"
    fingerprint: str
    n_features: int
    steer_from: "SteerFrom | None"


def open_place(asked: Asked, opened: ExitStack) -> Place:
    """Loaded, connected or found to be up. Raises SparsightError where it is not to be had."""
    other = read_steer_from(asked.steer_from, asked.top) if asked.steer_from else None
    if asked.api:
        return _gateways(asked, other, opened)
    if asked.engine == "ray":
        return _cluster(asked, other, opened)
    from serving.batch.engine import LocalEngine

    pipeline = load_pipeline(asked.model)
    engine = LocalEngine(pipeline, batch_size=asked.batch_size, workers=_workers(asked))
    return Place(engine, pipeline.fingerprint, pipeline.n_features, other)


def _gateways(asked: Asked, other: "SteerFrom | None", opened: ExitStack) -> Place:
    from serving.batch.api_engine import ApiEngine
    from serving.batch.gateways import Gateways

    gateways = Gateways(asked.api, api_key=os.environ.get(KEY))
    opened.callback(gateways.close)
    served = gateways.check()
    photos = {}
    if other is not None and asked.steer_from is not None:
        photos[other.photo.sha256] = Path(asked.steer_from).read_bytes()
    engine = ApiEngine(gateways, served, n_open=asked.batch_size, steer_from=photos)
    return Place(engine, served.fingerprint, served.n_features, other)


def _cluster(asked: Asked, other: "SteerFrom | None", opened: ExitStack) -> Place:
    from serving.batch.cluster.connect import Cluster, connected, ray_library
    from sparse_encoder.atlas import FeatureAtlas
    from vlm.model_folder import read_model

    ray_library()  # told at once where it is missing
    from serving.batch.cluster.engine import RayEngine

    model = str(Path(asked.model).absolute()) if os.path.isdir(asked.model) else asked.model
    folder = read_model(model)
    atlas = FeatureAtlas.load(folder.path / "features", fingerprint=folder.fingerprint)
    cluster = Cluster(
        asked.ray_address,
        asked.ray_encoders or 1,
        asked.ray_llms or 1,
        asked.ray_llm_gpus or 0.0,
    )
    opened.enter_context(connected(cluster, lambda words: click.echo(words, err=True)))
    engine = RayEngine(model, cluster, batch_size=asked.batch_size)
    return Place(engine, folder.fingerprint, len(atlas.names), other)


def _workers(asked: Asked) -> int:
    if asked.workers is not None:
        return asked.workers
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(MAX_WORKERS, n_cores - 1)
