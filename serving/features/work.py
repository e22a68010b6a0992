"""Codes of images, and features by words: no HTTP here."""

from collections.abc import Sequence

import torch
from torch import Tensor

from serving.errors import FeatureNotFoundError
from serving.features.wire import (
    Activations,
    ActivationsRequest,
    ActiveFeature,
    FeatureDetail,
    FeatureList,
    FeatureNeighbour,
    FeatureTopImage,
    NamedFeature,
    SparseCode,
    SparseCodes,
)
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.feature_search import FeatureFinder, FeaturePage
from sparse_encoder.feature_search.card import feature_card
from sparse_encoder.features.top_images_file import TopImage, TopImages
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
    order = _strongest(code, asked)
    return Activations(
        fingerprint=pipeline.fingerprint,
        sha256=image.sha256,
        n_active=int((code > 0).sum()),
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


def image_codes(
    pipeline: Pipeline, images: Sequence[DecodedImage], asked: ActivationsRequest
) -> SparseCodes:
    """The global code of each image, at most `asked.top` entries unless all are asked for."""
    found = []
    for image in images:  # one by one: a dense batch is never held
        codes = pipeline.encode([image])
        code = torch.zeros(codes.n_features)
        end = int(codes.offset[1])
        code[codes.index[:end]] = codes.value[:end]
        order = _strongest(code, asked)
        found.append(
            SparseCode(
                sha256=image.sha256,
                n_active=end,
                norm=float(code.double().norm()),
                indices=order,
                values=code[order].tolist(),
                names=[pipeline.atlas.names[j] for j in order],
            )
        )
    return SparseCodes(
        fingerprint=pipeline.fingerprint, n_features=pipeline.n_features, codes=found
    )


def make_finder(pipeline: Pipeline) -> FeatureFinder:
    """The finder over a pipeline's atlas, its text tower and its image head."""
    return FeatureFinder(
        pipeline.atlas,
        encode_texts=pipeline.encoder.encode_texts,
        head_weight=pipeline.encoder.image_head.weight.detach(),
    )


def feature_list(finder: FeatureFinder, page: FeaturePage) -> FeatureList:
    """A page of results with what the atlas says of each."""
    atlas = finder.atlas
    return FeatureList(
        fingerprint=atlas.fingerprint,
        features=[
            NamedFeature(
                feature=found.feature,
                name=atlas.names[found.feature],
                runner_up=list(atlas.runner_up[found.feature]),
                density=float(atlas.density[found.feature]),
                p99=float(atlas.p99[found.feature]),
                match=found.match,
                closeness=found.closeness,
                text=found.text,
            )
            for found in page.features
        ],
        total=page.total,
        next_cursor=page.next_cursor,
    )


def feature_detail(
    finder: FeatureFinder, name: str, top_images: TopImages | None = None
) -> FeatureDetail:
    """The feature of index `name`, with its strongest reference images where those are known. Raises FeatureNotFoundError for any other text."""
    atlas = finder.atlas
    # Python reads more than digits as a number ("1_0"), and takes seconds for a million of them.
    index = int(name) if name.isascii() and name.isdigit() and len(name) <= 9 else -1
    if not 0 <= index < atlas.n_features:
        raise FeatureNotFoundError(
            f"there is no feature {name[:80]!r}; this model has features "
            f"0..{atlas.n_features - 1}, and a search by words finds them",
            param="feature",
        )
    card = feature_card(atlas, index)
    return FeatureDetail(
        fingerprint=atlas.fingerprint,
        **{**vars(card), "runner_up": list(card.runner_up), "more": dict(card.more)},
        neighbours=[
            FeatureNeighbour(feature=n.feature, name=atlas.names[n.feature], cosine=n.cosine)
            for n in finder.neighbours(index)
        ],
        top_images=[_top_image(image) for image in (top_images.of(index) if top_images else ())],
    )


def _top_image(image: TopImage) -> FeatureTopImage:
    row, col = divmod(int(image.cells.argmax()), image.cells.shape[1])
    return FeatureTopImage(
        id=image.id,
        shard=image.shard,
        activation=image.activation,
        grid=(image.cells.shape[0], image.cells.shape[1]),
        strongest=(row, col),
    )


def _strongest(code: Tensor, asked: ActivationsRequest) -> list[int]:
    """Active features of (features,), strongest first, ties by index; all or `asked.top`."""
    n_active = int((code > 0).sum())
    n = n_active if asked.all else min(asked.top, n_active)
    order: list[int] = torch.argsort(code, descending=True, stable=True)[:n].tolist()
    return order


def _in_p99(activation: float, atlas: FeatureAtlas, feature: int) -> float | None:
    p99 = float(atlas.p99[feature])
    return activation / p99 if p99 > 0 else None
