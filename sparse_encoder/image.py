"""A photograph from bytes: checked, upright, RGB, and small enough to hold many in memory.

The pixels are what a person sees: EXIF rotation applied, transparency laid over white, 16 bits
scaled down to 8, CMYK converted. Of an animation the first frame counts. Dimensions are read from
the header and refused before a pixel is decoded, so a decompression bomb costs nothing. Photographs
with more than `ImageLimits.kept_side` pixels on a side are reduced: the trunks look at 260 x 260.
"""

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from sparse_encoder.errors import SparsightError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are read (JPEG takes MPO in); Pillow's 40 more are 40 more parsers to attack."""

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {  # what undoes each orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)  # those that swap width and height

# Pillow's readers let a dozen kinds of error through on malformed bytes (found by the fuzz test).
_UNREADABLE = (
    OSError,  # the usual one: truncated data, unknown format
    SyntaxError,  # broken PNG chunks
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_PLAIN_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LA", "La", "PA", "RGBA", "RGBa")


class ImageError(SparsightError):
    """A photograph that cannot be read, or that is larger than the limits allow."""

    code = "invalid_image"


@dataclass(frozen=True)
class ImageLimits:
    """What is decoded at all, and how much of it is kept."""

    max_bytes: int = 64_000_000  # of the file
    max_side: int = 32_768  # pixels, width or height
    # Width times height. The number is Pillow's: above it, Pillow itself warns, then refuses.
    max_pixels: int = 89_478_485
    kept_side: int = 1024  # pixels on the longer side after reduction

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_side", "max_pixels", "kept_side"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")


UNREDUCED = ImageLimits(kept_side=ImageLimits.max_side)
"""For what a person is to see: no photograph that is decoded at all is reduced."""


@dataclass(frozen=True)
class DecodedImage:
    """A photograph as a person sees it.

    pixels: RGB, upright, at most `ImageLimits.kept_side` on a side. sha256: hexadecimal, of the
    file's bytes. size: (width, height) of the upright photograph before it was reduced.
    """

    pixels: Image.Image
    sha256: str
    size: tuple[int, int]


def decode_image(data: bytes, limits: ImageLimits | None = None) -> DecodedImage:
    """The photograph in `data`, the bytes of a file in one of `FORMATS`.

    Raises ImageError, and nothing else, for bytes that are empty, unreadable, truncated or too
    large. Safe to call from many threads.
    """
    limits = limits or ImageLimits()
    if not data:
        raise ImageError("the image is empty (0 bytes); expected the bytes of a photograph")
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"the image file has {len(data):,} bytes, more than the {limits.max_bytes:,} allowed; "
            "send a smaller copy"
        )
    with _open(data) as image:
        size = image.size
        _check_size(size, limits)
        try:
            image.draft(None, (limits.kept_side, limits.kept_side))  # JPEG decodes at 1/2, 1/4, 1/8
            image.load()
            orientation = _orientation(image)  # after load: TIFF turns itself and forgets the tag
            pixels = _upright_rgb(image, orientation, limits.kept_side)
        except MemoryError as error:
            raise ImageError(f"the image of {_by(size)} pixels does not fit in memory") from error
        except ImageError:
            raise
        except (*_UNREADABLE, *_BOMB) as error:
            raise ImageError(
                f"the {image.format} image of {_by(size)} pixels is truncated or damaged "
                f"({_words(error)}); expected a complete file"
            ) from error
    size = size[::-1] if orientation in _TURNED else size
    return DecodedImage(pixels, hashlib.sha256(data).hexdigest(), size)


def open_image(path: str | Path, limits: ImageLimits | None = None) -> DecodedImage:
    """The photograph in the file `path`; raises ImageError, whose message begins with the path."""
    path = Path(path)
    limits = limits or ImageLimits()
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)  # one more shows that the file is too large
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise ImageError(f"{path}: this is a folder, expected a photograph") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # a null byte in the name
        raise ImageError(f"{path!r}: not a file name ({error})") from error
    try:
        return decode_image(data, limits)
    except ImageError as error:
        raise ImageError(f"{path}: {error.message}") from error


def _open(data: bytes) -> ImageFile.ImageFile:
    """The image with its header read and no pixel decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except _BOMB as error:
        raise ImageError(f"the image is too large: {_words(error)}; send a smaller copy") from error
    except _UNREADABLE as error:
        raise ImageError(
            f"the image cannot be read: {len(data):,} bytes that begin with {data[:8]!r} are none "
            f"of {', '.join(FORMATS)}, or their header is damaged"
        ) from error


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    if min(size) < 1:
        raise ImageError(f"the image has {_by(size)} pixels; expected 1 x 1 or more")
    if max(size) > limits.max_side or size[0] * size[1] > limits.max_pixels:
        raise ImageError(
            f"the image of {_by(size)} pixels is too large: at most {limits.max_side:,} a side and "
            f"{limits.max_pixels:,} in all are decoded; send a smaller copy"
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation in 1..8; 1 where there is none, or none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE:
        return 1  # damaged EXIF leaves a good photograph, which every viewer shows as it lies
    return value if value in _UPRIGHT else 1


def _upright_rgb(image: Image.Image, orientation: int, kept_side: int) -> Image.Image:
    """A plain RGB copy of a loaded image, at most `kept_side` on a side."""
    image = _eight_bit(image)
    if max(image.size) > kept_side:
        # Averages alpha-weighted colours, so transparent pixels do not bleed into their neighbours.
        image.thumbnail((kept_side, kept_side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image.copy()
    upright.info.clear()  # an orientation left in there would be applied twice
    return upright


def _eight_bit(image: Image.Image) -> Image.Image:
    """The image in RGB, or in RGBA where some pixel may be transparent."""
    if image.mode.startswith("I;16"):
        # convert("L") would clip at 255: nearly all of a 16-bit photograph would turn white.
        levels = np.asarray(image)  # (height, width), 0..65535
        grey = (levels >> 8).astype(np.uint8)
        if isinstance(clear := image.info.get("transparency"), int):
            grey[levels == clear] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode not in _PLAIN_MODES:
        raise ImageError(
            f"the {image.format} image has pixels of mode {image.mode!r}; expected 8 or 16 bits a "
            "channel (grey, RGB, CMYK): save it as JPEG or PNG"
        )
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)  # a copy may be 350 MB


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
