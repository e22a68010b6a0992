"""A cell map laid over its photograph.

Colour and cover both grow with the activation, so that weak cells leave the photograph as it is.
The colours go from dark violet to pale yellow, which keeps their order for the colour-blind and in
grey; the strongest region is framed.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sparse_encoder.locate import Box, CellMap

# Five stops of the "inferno" scale of matplotlib (CC0), evenly spaced, without its black end.
STOPS = ((66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
COVER = 0.75  # of the photograph by the strongest cell
FRAME = ((0, 0, 0), (255, 255, 255))  # outer and inner line: one of them shows on any ground


def draw_overlay(photo: Image.Image, located: CellMap) -> Image.Image:
    """The RGB photograph with the map over it, at the photograph's own size.

    The map's largest sum has the full colour, whatever it is; cells are joined bilinearly.
    """
    out = photo.convert("RGB")
    heat = _heat(located, out.size)
    levels = np.arange(256) / 255
    colours = [
        heat.point(_table(np.interp(levels, np.linspace(0, 1, len(STOPS)), channel)))
        for channel in zip(*STOPS, strict=True)
    ]
    cover = heat.point(_table(255 * COVER * levels))
    # Eight bits throughout: a photograph of 89 million pixels would not fit as floats.
    out.paste(Image.merge("RGB", colours), (0, 0), cover)
    if located.region is not None:
        _frame(out, located.region)
    return out


def _heat(located: CellMap, size: tuple[int, int]) -> Image.Image:
    """The map as grey levels 0..255 of its maximum, (width, height) pixels."""
    cells = located.cells / located.cells.max() if located.is_active else located.cells
    levels = (255 * cells).round().numpy().astype(np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR)


def _table(values: NDArray[np.floating]) -> list[int]:
    return [int(value) for value in values.round()]


def _frame(image: Image.Image, region: Box) -> None:
    width, height = image.size
    x0, y0, x1, y1 = region
    line = max(1, round(min(width, height) / 200))
    left, top = round(x0 * width), round(y0 * height)
    right, bottom = max(left, round(x1 * width) - 1), max(top, round(y1 * height) - 1)
    draw = ImageDraw.Draw(image)
    for i, colour in enumerate(FRAME):
        inset = i * line
        if right - left > 2 * (inset + line) and bottom - top > 2 * (inset + line):
            box = (left + inset, top + inset, right - inset, bottom - inset)
            draw.rectangle(box, outline=colour, width=line)
