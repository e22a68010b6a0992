"""Image-text retrieval from unit codes, in blocks: texts x images are never held at once.

Codes may be a tensor, or anything that gives the unit codes of chosen rows when it is asked for
them (a projection of kept trunk vectors): then texts x features and images x features are not held
either.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from sparse_encoder.errors import SparsightError

BLOCK = 1024  # rows a side: 4 MB of similarities


class Rows(Protocol):
    """Unit codes by row. ``rows[index]`` is (len(index), features) for an int64 index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor: ...


def recall(
    text: Rows, image: Rows, owner: Tensor, ks: tuple[int, ...] = (1, 5, 10), *, block: int = BLOCK
) -> dict[str, float]:
    """R@k both ways in [0, 1], higher is better: ``t2i@1``, ``i2t@1``, ...

    text: unit codes of the texts, image: of the images. owner: (texts,) image of each, int64.
    Text to image: the text's own image is among the k nearest. Image to text: any of its texts is;
    images that own no text are there to be found wrongly, and are not asked for.
    Ties count against us. Raises SparsightError without texts or images, and where an owner is
    none of the images.
    """
    _check(text, image, owner)
    own = torch.zeros(len(text), dtype=torch.float64)  # similarity of each text to its image
    best = torch.full(
        (len(image),), -torch.inf, dtype=torch.float64
    )  # of each image to the nearest of its texts
    for rows, columns, similarity in _blocks(text, image, block, only_own=owner):
        at = owner[rows] - columns[0]
        inside = (at >= 0) & (at < len(columns))
        own[rows[inside]] = similarity[inside].gather(1, at[inside, None])[:, 0]
        best.scatter_reduce_(0, owner[rows[inside]], own[rows[inside]], "amax")
    rank_of_image = torch.zeros(len(text), dtype=torch.int64)
    rank_of_text = torch.zeros(len(image), dtype=torch.int64)
    for rows, columns, similarity in _blocks(text, image, block):
        other = owner[rows, None] != columns
        rank_of_image[rows] += ((similarity >= own[rows, None]) & other).sum(1)
        rank_of_text[columns] += ((similarity >= best[columns]) & other).sum(0)
    asked = torch.bincount(owner, minlength=len(image)) > 0
    out = {}
    for k in ks:
        out[f"t2i@{k}"] = float((rank_of_image < k).float().mean())
        out[f"i2t@{k}"] = float((rank_of_text[asked] < k).float().mean())
    return out


def chance_recall(
    owner: Tensor, n_images: int, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """R@k of a random order, with the keys of `recall`; what a small set gives away for nothing.

    Image to text: 1 - C(T - m, k) / C(T, k) for an image with m of T texts, averaged over images.
    """
    n_texts = len(owner)
    own = torch.bincount(owner, minlength=n_images)
    own = own[own > 0].double()
    out = {}
    for k in ks:
        miss = torch.ones_like(own)
        for drawn in range(min(k, n_texts)):  # one text after another, without replacement
            miss = miss * ((n_texts - drawn - own) / (n_texts - drawn)).clamp_min(0)
        out[f"t2i@{k}"] = min(k / n_images, 1.0)
        out[f"i2t@{k}"] = float((1 - miss).mean())
    return out


def _check(text: Rows, image: Rows, owner: Tensor) -> None:
    if not len(text) or not len(image):
        raise SparsightError(
            f"retrieval needs texts and images, but there are {len(text)} texts and "
            f"{len(image)} images; give a set whose photographs have captions",
            param="data",
        )
    if len(owner) != len(text) or int(owner.min()) < 0 or int(owner.max()) >= len(image):
        raise SparsightError(
            f"owner names images {int(owner.min())} to {int(owner.max())} for {len(owner)} texts; "
            f"expected one of 0 to {len(image) - 1} for each of {len(text)} texts"
        )


def _blocks(
    text: Rows, image: Rows, block: int, *, only_own: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(text rows, image rows, similarity) of every block, or of those with an owned pair in them.

    Both sweeps see the same blocks, so a text's own similarity is equal to the last bit in both:
    one product of another shape could differ there and turn a tie into a win.
    """
    starts = tqdm(range(0, len(image), block), desc="retrieval", unit="block", delay=2, leave=False)
    for start in starts:
        columns = torch.arange(start, min(start + block, len(image)))
        image_code = image[columns]
        for rows in torch.arange(len(text)).split(block):
            if only_own is not None:
                owned = (only_own[rows] >= columns[0]) & (only_own[rows] <= columns[-1])
                if not owned.any():
                    continue
            yield rows, columns, (text[rows] @ image_code.T).cpu().double()
