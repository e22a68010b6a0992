"""Photographs of a request, as ``data:image/jpeg;base64,...`` or, where allowed, as addresses."""

import base64
import binascii
import threading

from serving.remote_image import RemoteImageError, RemoteImages, fetch_image
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage, ImageLimits, decode_image

# Photographs that are decoded at once: each may be large. Threads that fetch do not count.
_DECODING = threading.BoundedSemaphore(4)


def read_image(
    uri: str,
    *,
    param: str,
    limits: ImageLimits | None = None,
    remote: RemoteImages | None = None,
) -> DecodedImage:
    """The photograph in a data URI, or at a web address that `remote` allows.

    Raises SparsightError, with this `param`, where there is none.
    """
    scheme, _, rest = uri.partition(":")
    if scheme.lower() in ("http", "https"):
        if remote is not None and remote.hosts:
            return _decoded(_fetched(uri, param, remote), param, limits)
        raise _refusal(
            "addresses are not fetched, so that a request cannot make this server call others; "
            "download the photograph and send it as data:image/jpeg;base64,...",
            param,
            "remote_image",
        )
    if scheme.lower() != "data":
        raise _refusal(f"{uri[:40]!r} is no data URI: data:image/jpeg;base64,...", param)
    header, comma, data = rest.partition(",")
    kind, *options = header.lower().split(";")
    if not comma:
        raise _refusal("the data URI has no comma before its data", param)
    if not kind.startswith("image/"):
        raise _refusal(f"the data URI's type is {kind[:40]!r}, expected image/...", param)
    if "base64" not in options:
        raise _refusal("the data URI is not base64; write data:image/jpeg;base64,...", param)
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise _refusal(f"the data URI's base64 cannot be read: {error}", param) from None
    # The stated type is not trusted: the decoder goes by the bytes.
    return _decoded(content, param, limits)


def _fetched(address: str, param: str, remote: RemoteImages) -> bytes:
    try:
        content = fetch_image(address, remote)
    except RemoteImageError as error:
        raise _refusal(error.message, param, error.code) from None
    if len(content) > remote.max_bytes:
        raise _refusal(
            f"the image has more than {remote.max_bytes:,} bytes; send a smaller copy",
            param,
            "remote_image",
        )
    return content


def _decoded(content: bytes, param: str, limits: ImageLimits | None) -> DecodedImage:
    try:
        with _DECODING:
            return decode_image(content, limits)
    except SparsightError as error:
        raise SparsightError(f"{param}: {error.message}", param=param, code=error.code) from None


def _refusal(why: str, param: str, code: str = "invalid_image_url") -> SparsightError:
    return SparsightError(f"{param}: {why}", param=param, code=code)
