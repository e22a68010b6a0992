"""Random crops and mirror images, so that a small set of photographs is not learnt by heart."""

import math
import random

from PIL import Image

ASPECT = (3 / 4, 4 / 3)  # of a crop, width / height, as in torchvision's RandomResizedCrop
_TRIES = 10  # as there


def augmented(
    image: Image.Image, side: int, crop: float, flip: bool, random: random.Random
) -> Image.Image:
    """A random part of `image` as (side, side) pixels, mirrored every second time.

    crop: least share of the area that is kept, in (0, 1]; 1: the picture is not cut. flip: whether
    it may be mirrored.
    """
    if crop < 1:
        box = random_box(image.size, crop, random)
        # Pillow halves a large part first where that is not seen; `reducing_gap` says how near.
        image = image.resize((side, side), Image.Resampling.BICUBIC, box, reducing_gap=2.0)
    if flip and random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def random_box(
    size: tuple[int, int], crop: float, random: random.Random
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a part with `crop` to all of the area, inside of the picture.

    Area even, aspect even in its logarithm; the largest square where ten draws do not fit.
    """
    width, height = size
    for _ in range(_TRIES):
        area = random.uniform(crop, 1.0) * width * height
        aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        wide, high = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if wide <= width and high <= height:
            break
    else:
        wide = high = float(min(width, height))
    left, top = random.uniform(0, width - wide), random.uniform(0, height - high)
    return left, top, min(left + wide, width), min(top + high, height)
