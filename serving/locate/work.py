"""Cell maps as numbers and as pictures: no HTTP here."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from serving.data_uri import read_image
from serving.locate.wire import Located, LocateRequest
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import UNREDUCED, DecodedImage, ImageLimits
from sparse_encoder.locate import CellMap
from sparse_encoder.overlay import draw_overlay
from vlm.explain.place import locate
from vlm.pipeline import Pipeline

MAX_OVERLAY_PIXELS = 4096 * 4096  # of a picture in an answer: some 30 MB as PNG


@dataclass(frozen=True)
class Asked:
    """A request with its photograph decoded."""

    body: LocateRequest
    image: DecodedImage
    whole: Image.Image | None  # not reduced, where an overlay is asked for


def read_locate(body: LocateRequest, limits: ImageLimits) -> Asked:
    """Decodes the photograph. Raises SparsightError where it is none, or too large to be answered."""
    image = read_image(body.image, param="image", limits=limits)
    if not body.overlay:
        return Asked(body, image, None)
    width, height = image.size
    if width * height > MAX_OVERLAY_PIXELS:
        raise SparsightError(
            f"overlay: the photograph has {width} x {height} pixels, an overlay at most "
            f"{MAX_OVERLAY_PIXELS:,}; send a smaller copy, or leave the overlay out",
            param="overlay",
        )
    if image.size == image.pixels.size:
        return Asked(body, image, image.pixels)
    return Asked(body, image, read_image(body.image, param="image", limits=UNREDUCED).pixels)


def find_cells(pipeline: Pipeline, asked: Asked) -> CellMap:
    """The cell map that is asked for. Raises SparsightError as `locate` does."""
    body = asked.body
    return locate(pipeline, asked.image, feature=body.feature, concept=body.concept, k=body.k)


def answer(pipeline: Pipeline, asked: Asked, found: CellMap) -> Located:
    """The map in the shape of the answer, its picture with it where that is asked for."""
    return Located(
        fingerprint=pipeline.fingerprint,
        sha256=asked.image.sha256,
        names=[pipeline.atlas.names[j] for j in found.features],
        overlay=None if asked.whole is None else _as_uri(draw_overlay(asked.whole, found)),
        **found.to_json(),
    )


def _as_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getbuffer()).decode()
