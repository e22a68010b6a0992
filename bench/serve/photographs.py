"""Real photographs to send: of the data sets' held-out part, or those that come with the demo."""

import base64
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from PIL import Image

from sparse_encoder.dataset import find_shards, read_samples

EXAMPLES = Path(__file__).parents[2] / "demo" / "examples"
SIDE = 512  # pixels of the longer side that is sent, as phones' apps shrink what they upload


class Photographs:
    """`warm(i)` repeats after a few photographs, `cold()` never gives the same bytes twice.

    A cold one is a photograph with some pixels cut off its edges: other bytes and another code, at
    the same size and cost.
    """

    def __init__(self, files: Sequence[bytes]) -> None:
        if not files:
            raise ValueError("there is no photograph to send")
        self._images = [_opened(file) for file in files]
        self._warm = [_uri(image) for image in self._images]
        self._n_cold = 0

    def __len__(self) -> int:
        return len(self._warm)

    def warm(self, i: int) -> str:
        """Photograph i, counted round and round, as a data URI."""
        return self._warm[i % len(self)]

    def cold(self) -> str:
        """One that was not sent before, as a data URI."""
        n = self._n_cold
        self._n_cold += 1
        image = self._images[n % len(self)]
        cut = n // len(self) + 1
        left, top = cut % 16, cut // 16
        if top >= image.height // 4:
            raise ValueError(f"{n} cold photographs of {len(self)} files are all there are")
        return _uri(image.crop((left, top, image.width, image.height)))


def read_photographs(data: Path | None, n: int) -> Photographs:
    """At most `n` of Flickr8k's held-out photographs below `data`; None: the demo's examples."""
    if data is None:
        files = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))[:n]]
    else:
        samples = read_samples(find_shards(data, "flickr8k/val-*.tar"))
        files = [sample.image for sample in islice(samples, n)]
    return Photographs(files)


def _opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file)).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    return image


def _uri(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
