import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sparse_encoder.pretrain.augment import ASPECT, augmented, random_box


def picture(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    crop=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_box_lies_in_the_picture_with_the_share_that_was_asked_for(
    width: int, height: int, crop: float, seed: int
) -> None:
    left, top, right, bottom = random_box((width, height), crop, random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    wide, high = right - left, bottom - top
    is_largest_square = abs(min(wide, high) - min(width, height)) < 1e-6
    assert is_largest_square or wide * high >= (crop - 1e-6) * width * height
    assert ASPECT[0] - 1e-6 <= wide / high <= ASPECT[1] + 1e-6


def test_without_crop_and_flip_the_picture_is_the_same() -> None:
    image = picture()
    assert augmented(image, 16, 1.0, False, random.Random(0)).tobytes() == image.tobytes()


def test_crops_have_the_side_and_differ_from_seed_to_seed() -> None:
    crops = [augmented(picture(), 16, 0.3, False, random.Random(seed)) for seed in (0, 1, 0)]
    assert {crop.size for crop in crops} == {(16, 16)}
    assert crops[0].tobytes() == crops[2].tobytes() != crops[1].tobytes()


def test_about_every_second_picture_is_mirrored() -> None:
    image = picture()
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    random_ = random.Random(0)
    found = [augmented(image, 16, 1.0, True, random_).tobytes() for _ in range(100)]
    assert set(found) == {image.tobytes(), mirrored}
    assert 35 <= found.count(mirrored) <= 65
