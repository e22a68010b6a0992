"""Strongest features of an image, and features by name: no HTTP here."""

import torch

from serving.features.wire import (
    Activations,
    ActivationsRequest,
    ActiveFeature,
    FeatureList,
    NamedFeature,
)
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.image import DecodedImage
from vlm.pipeline import Pipeline


def image_activations(
    pipeline: Pipeline, image: DecodedImage, asked: ActivationsRequest
) -> Activations:
    """The `asked.top` strongest features by raw activation; fewer where fewer are active."""
    codes = pipeline.encode([image])
    rows = codes.dense()  # (1 + cells, features)
    code = rows[0]
    squared_norm = float(code.double().square().sum())
    n_active = int((code > 0).sum())
    order = torch.argsort(code, descending=True, stable=True)[: min(asked.top, n_active)].tolist()
    return Activations(
        fingerprint=pipeline.fingerprint,
        sha256=image.sha256,
        n_active=n_active,
        norm=squared_norm**0.5,
        features=[
            ActiveFeature(
                feature=j,
                name=pipeline.atlas.names[j],
                activation=float(code[j]),
                p99=_in_p99(float(code[j]), pipeline.atlas, j),
                share=float(code[j]) ** 2 / squared_norm,
                **({"cells": rows[1:, j].view(codes.grid).tolist()} if asked.cells else {}),
            )
            for j in order
        ],
    )


def _in_p99(activation: float, atlas: FeatureAtlas, feature: int) -> float | None:
    p99 = float(atlas.p99[feature])
    return activation / p99 if p99 > 0 else None


def find_features(pipeline: Pipeline, query: str, limit: int) -> FeatureList:
    """Live features whose names hold `query`: equal first, then by start, then anywhere."""
    atlas, wanted = pipeline.atlas, query.strip().lower()
    ranked = sorted(
        (rank, j)
        for j, name in enumerate(atlas.names)
        if not atlas.dead[j] and (rank := _rank(wanted, name, atlas.runner_up[j])) is not None
    )
    return FeatureList(
        fingerprint=pipeline.fingerprint,
        features=[
            NamedFeature(
                feature=j,
                name=atlas.names[j],
                runner_up=list(atlas.runner_up[j]),
                density=float(atlas.density[j]),
                p99=float(atlas.p99[j]),
            )
            for _, j in ranked[:limit]
        ],
    )


def _rank(wanted: str, name: str, runner_up: list[str]) -> int | None:
    """0 for the best match, None for none; a first name counts before a further one."""
    best = None
    for i, each in enumerate([name, *runner_up]):
        text = each.lower()
        if wanted not in text or not text:
            continue
        rank = 0 if text == wanted else 2 if text.startswith(wanted) else 4
        rank += i > 0
        best = rank if best is None else min(best, rank)
    return best
