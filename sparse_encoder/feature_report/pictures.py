"""The pictures on which each feature is strongest, with where it is active in them.

Kept: `n_kept` pictures a feature and a byte for each of their cells, whatever the number of pictures.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparse_encoder.codes import Codes

SIDE = 224  # pixels on the longer side of a picture in a report
LEVELS = 99  # the strongest cell of a picture; two digits keep the files small


@dataclass(frozen=True)
class Shown:
    """One picture of one feature."""

    picture: int  # its place in the order of `add`
    activation: float  # global, raw units
    cells: list[int]  # 0..LEVELS of the feature's strongest cell in this picture, reading order


@dataclass
class TopPictures:
    """Running best pictures of every feature."""

    n_features: int
    n_kept: int = 4
    grid: tuple[int, int] = (0, 0)
    thumbnails: list[Image.Image] = field(default_factory=list)
    _activation: NDArray[np.float32] = field(init=False)  # (features, kept), descending, 0: none
    _picture: NDArray[np.int32] = field(init=False)  # (features, kept)
    _cells: NDArray[np.uint8] = field(init=False)  # (features, kept, cells)

    def __post_init__(self) -> None:
        shape = (self.n_features, self.n_kept)
        self._activation = np.zeros(shape, dtype=np.float32)
        self._picture = np.full(shape, -1, dtype=np.int32)
        self._cells = np.zeros((*shape, self.grid[0] * self.grid[1]), dtype=np.uint8)

    def add(self, pixels: Image.Image, codes: Codes) -> None:
        """Takes in one picture and its codes. Raises ValueError for another width or grid."""
        if (codes.n_features, codes.grid) != (self.n_features, self.grid) or codes.n_images != 1:
            raise ValueError(
                f"codes of {codes.n_images} images, {codes.n_features} features, grid {codes.grid}; "
                f"expected one image, {self.n_features}, {self.grid}"
            )
        picture = len(self.thumbnails)
        small = pixels.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        self.thumbnails.append(small)
        end = int(codes.offset[1])
        feature, activation = codes.index[:end].numpy(), codes.value[:end].numpy()
        better = activation > self._activation[feature, -1]
        feature, activation = feature[better], activation[better]
        self._activation[feature, -1] = activation
        self._picture[feature, -1] = picture
        self._cells[feature, -1] = _levels(codes, feature)
        order = np.argsort(-self._activation[feature], axis=1, kind="stable")  # (better, kept)
        for kept in (self._activation, self._picture):
            kept[feature] = np.take_along_axis(kept[feature], order, 1)
        self._cells[feature] = np.take_along_axis(self._cells[feature], order[:, :, None], 1)

    def of(self, feature: int) -> list[Shown]:
        """The pictures of a feature, strongest first; none where it was active on none."""
        return [
            Shown(int(picture), float(activation), cells.tolist())
            for picture, activation, cells in zip(
                self._picture[feature], self._activation[feature], self._cells[feature], strict=True
            )
            if picture >= 0
        ]


def _levels(codes: Codes, features: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Cells of one image for ascending `features`, (features, cells), each row's maximum LEVELS."""
    cells = np.zeros((len(features), codes.n_cells), dtype=np.float32)
    start = int(codes.offset[1])  # past the global code
    feature, value = codes.index[start:].numpy(), codes.value[start:].numpy()
    cell = np.repeat(np.arange(codes.n_cells), codes.offset[1:].diff().numpy())
    row = np.searchsorted(features, feature).clip(max=max(len(features) - 1, 0))
    wanted = features[row] == feature if len(features) else np.zeros(len(feature), dtype=np.bool_)
    cells[row[wanted], cell[wanted]] = value[wanted]
    top = cells.max(axis=1, initial=0.0, keepdims=True)
    return np.asarray((LEVELS * cells / np.maximum(top, 1e-12)).round(), dtype=np.uint8)
