"""Photographs of every sane and insane kind, each built here; no file of the project is read."""

import hashlib
import io
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from sparse_encoder.image import DecodedImage, ImageError, ImageLimits, decode_image, open_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def half(kind: str, **options: object) -> bytes:
    data = encoded(noise(), kind, **options)
    return data[: len(data) // 2]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def colour_at(image: DecodedImage, x: int = 0, y: int = 0) -> tuple[int, ...]:
    pixel = image.pixels.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel


def close(found: tuple[int, ...], wanted: tuple[int, ...], off: int = 12) -> bool:
    return all(abs(a - b) <= off for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"hello, I am no image", "cannot be read", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of", id="svg"),
        pytest.param(encoded(noise(), "PPM"), "none of JPEG", id="format outside of the list"),
        pytest.param(encoded(noise(), "PNG")[:20], "header", id="half a header"),
        pytest.param(half("JPEG"), "truncated", id="truncated jpeg"),
        pytest.param(half("JPEG", progressive=True), "truncated", id="truncated progressive"),
        pytest.param(half("PNG"), "truncated", id="truncated png"),
        pytest.param(half("GIF"), "truncated", id="truncated gif"),
        pytest.param(half("BMP"), "truncated", id="truncated bmp"),
        pytest.param(half("TIFF"), "damaged", id="truncated tiff"),
        pytest.param(half("WEBP"), "damaged", id="truncated webp"),
        pytest.param(png_that_claims(30_000, 30_000), "too large", id="bomb"),
        pytest.param(png_that_claims(12_000, 12_000), "too large", id="smaller bomb"),
        pytest.param(png_that_claims(9_500, 9_500), "too large", id="just too large"),
        pytest.param(png_that_claims(32_769, 1), "32,768", id="too wide"),
        pytest.param(png_that_claims(0, 5), "cannot be read", id="no width"),
        pytest.param(png_that_claims(500, 500), "truncated", id="fewer pixels than claimed"),
        pytest.param(encoded(noise((9, 9), "F"), "TIFF"), "mode 'F'", id="32-bit float"),
        pytest.param(encoded(noise((9, 9), "LAB"), "TIFF"), "mode 'LAB'", id="lab"),
    ],
)
def test_a_bad_image_is_refused_in_words(data: bytes, word: str) -> None:
    with pytest.raises(ImageError, match=word):
        decode_image(data)


def test_a_bomb_is_refused_before_a_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    bomb = encoded(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageError, match=r"too large"):
        decode_image(bomb)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as outside of tests
def test_an_image_that_pillow_only_warns_of_is_refused() -> None:
    with pytest.raises(ImageError, match="at most 32,768 a side and 89,478,485 in all"):
        decode_image(png_that_claims(9_500, 9_500))


def test_a_file_above_the_byte_limit_is_refused() -> None:
    with pytest.raises(ImageError, match="more than the 1,000 allowed"):
        decode_image(encoded(noise()), ImageLimits(max_bytes=1000))


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="kept_side is 0"):
        ImageLimits(kept_side=0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"])
@pytest.mark.parametrize("size", [(1, 1), (7, 3)])
def test_small_images_of_each_format_are_read(kind: str, size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size, (200, 40, 40)), kind)
    image = decode_image(data)
    assert (image.pixels.mode, image.pixels.size, image.size) == ("RGB", size, size)
    assert close(colour_at(image), (200, 40, 40))
    assert image.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    assert colour_at(decode_image(animation(kind))) == RED


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str) -> None:
    levels = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(2, 0)
    image = decode_image(encoded(Image.fromarray(levels), kind))
    red = np.asarray(image.pixels)[0, :, 0]
    assert red.tolist() == list(range(256))


def test_a_sixteen_bit_colour_png_keeps_its_colours() -> None:
    row = b"\0" + struct.pack(">3H", 65535, 32768, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    data += png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    assert colour_at(decode_image(data)) == (255, 128, 0)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("colour", [RED, GREEN, BLUE, WHITE, (0, 0, 0)])
def test_cmyk_keeps_its_colours(kind: str, colour: tuple[int, int, int]) -> None:
    cmyk = Image.new("RGB", (16, 16), colour).convert("CMYK")  # Pillow writes JPEG as Adobe does
    assert close(colour_at(decode_image(encoded(cmyk, kind)), 8, 8), colour)


def palette_image() -> Image.Image:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([*RED, *GREEN])
    image.putpixel((0, 0), 1)
    return image


@pytest.mark.parametrize(
    ("data", "first", "rest"),
    [
        pytest.param(encoded(palette_image()), GREEN, RED, id="opaque palette"),
        pytest.param(encoded(palette_image(), transparency=1), WHITE, RED, id="palette index"),
        pytest.param(
            encoded(palette_image(), transparency=b"\xff\x80"), (127, 255, 127), RED, id="alphas"
        ),
        pytest.param(
            encoded(palette_image(), "GIF", transparency=1), WHITE, RED, id="transparent gif"
        ),
        pytest.param(
            encoded(Image.new("RGBA", (4, 4), (0, 0, 255, 0))), WHITE, WHITE, id="all clear"
        ),
        pytest.param(
            encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "WEBP", lossless=True),
            (127, 127, 127),
            (127, 127, 127),
            id="half clear",
        ),
        pytest.param(
            encoded(Image.new("LA", (4, 4), (0, 128))),
            (127, 127, 127),
            (127, 127, 127),
            id="grey with alpha",
        ),
        pytest.param(
            encoded(Image.new("RGB", (4, 4), RED), transparency=RED), WHITE, WHITE, id="colour key"
        ),
        pytest.param(
            encoded(Image.new("L", (4, 4), 9), transparency=9), WHITE, WHITE, id="grey key"
        ),
        pytest.param(
            encoded(Image.new("I;16", (4, 4), 999), transparency=999), WHITE, WHITE, id="16-bit key"
        ),
        pytest.param(encoded(Image.new("1", (4, 4), 1)), WHITE, WHITE, id="one bit"),
    ],
)
def test_transparency_lies_over_white(
    data: bytes, first: tuple[int, ...], rest: tuple[int, ...]
) -> None:
    image = decode_image(data)
    assert image.pixels.mode == "RGB"
    assert close(colour_at(image), first, off=1)
    assert close(colour_at(image, 3, 3), rest, off=1)


def test_transparent_pixels_do_not_colour_their_neighbours_when_reduced() -> None:
    image = Image.new("RGBA", (400, 400), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 201, 400))
    pixels = np.asarray(decode_image(encoded(image), ImageLimits(kept_side=40)).pixels).astype(int)
    assert (pixels[..., 0] <= pixels[..., 2]).all()  # from blue to white there is no red cast


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    upright = Image.new("RGB", (64, 32), RED)
    upright.paste(GREEN, (32, 0, 64, 16))
    upright.paste(BLUE, (0, 16, 32, 32))
    stored = {  # how a camera held that way stores the upright scene (EXIF 2.3, table 6)
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.rotate(180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.rotate(90, expand=True).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        6: lambda i: i.rotate(90, expand=True),
        7: lambda i: i.rotate(-90, expand=True).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        8: lambda i: i.rotate(-90, expand=True),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(stored, kind, exif=exif))
    assert image.size == image.pixels.size == (64, 32)
    assert not image.pixels.info  # nobody can turn it again
    for x, y, colour in ((16, 8, RED), (48, 8, GREEN), (16, 24, BLUE), (48, 24, RED)):
        assert close(colour_at(image, x, y), colour)


@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0MM\0*\xff\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of the damage, and goes on
def test_damaged_exif_leaves_the_photograph_as_it_lies(exif: bytes) -> None:
    assert decode_image(encoded(noise((8, 4)), "JPEG", exif=exif)).size == (8, 4)


@pytest.mark.parametrize(
    ("size", "kind", "kept"),
    [
        ((20_000, 1_000), "JPEG", (1024, 51)),
        ((1_000, 20_000), "PNG", (51, 1024)),
        ((20_000, 1), "PNG", (1024, 1)),
        ((1_025, 1_025), "BMP", (1024, 1024)),
        ((1_024, 1_024), "WEBP", (1024, 1024)),
    ],
)
def test_large_images_are_reduced_and_keep_their_size_on_record(
    size: tuple[int, int], kind: str, kept: tuple[int, int]
) -> None:
    image = decode_image(encoded(Image.new("RGB", size, (90, 180, 20)), kind))
    assert (image.size, image.pixels.size) == (size, kept)
    assert close(colour_at(image), (90, 180, 20))


def test_a_large_jpeg_with_orientation_is_turned_after_it_is_reduced() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(encoded(Image.new("RGB", (6_000, 3_000)), "JPEG", exif=exif))
    assert (image.size, image.pixels.size) == ((3_000, 6_000), (512, 1024))


SEEDS = [
    *(encoded(noise((24, 20)), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")),
    encoded(noise((24, 20)), "TIFF", compression="tiff_lzw"),
    encoded(palette_image(), transparency=1),
    animation("WEBP"),
    animation("PNG"),
]


@pytest.mark.filterwarnings("ignore")  # Pillow may warn of what it then reads or refuses
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 4000),
)
def test_mutated_bytes_are_read_or_refused_and_nothing_else(
    seed: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(seed)
    for position, value in edits:
        data[position % len(data)] = value
    data = data[: cut % (4 * len(data)) or None]
    try:
        image = decode_image(bytes(data), ImageLimits(max_pixels=1_000_000))
    except ImageError as error:
        assert error.message
    else:
        assert image.pixels.mode == "RGB"
        assert max(image.pixels.size) <= 1024


def test_threads_decode_the_same_photograph_to_the_same_pixels() -> None:
    data = encoded(noise((1500, 900)), "JPEG")
    found: list[bytes] = []
    work = [
        threading.Thread(target=lambda: found.append(decode_image(data).pixels.tobytes()))
        for _ in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def make_missing(path: Path) -> None:
    pass


def make_folder(path: Path) -> None:
    path.mkdir()


def make_text(path: Path) -> None:
    path.write_text("not an image")


def make_empty(path: Path) -> None:
    path.touch()


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(65_000_000)  # takes no space on the disk


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (make_missing, "no such file"),
        (make_folder, "folder"),
        (make_text, "cannot be read"),
        (make_empty, "empty"),
        (make_huge, "more than"),
    ],
)
def test_a_bad_path_is_refused_and_named(
    tmp_path: Path, make: Callable[[Path], None], word: str
) -> None:
    path = tmp_path / "photo.jpg"
    make(path)
    with pytest.raises(ImageError, match=word) as caught:
        open_image(path)
    assert caught.value.message.startswith(str(path))


def test_a_path_that_is_no_path_is_refused() -> None:
    with pytest.raises(ImageError, match="not a file name"):
        open_image("a\0b")


def test_open_image_equals_decode_image_of_the_same_bytes(tmp_path: Path) -> None:
    data = encoded(noise())
    (tmp_path / "photo.png").write_bytes(data)
    opened, decoded = open_image(tmp_path / "photo.png"), decode_image(data)
    assert (opened.sha256, opened.size) == (decoded.sha256, decoded.size)
    assert opened.pixels.tobytes() == decoded.pixels.tobytes()
