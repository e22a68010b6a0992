"""Zero-shot classification: the class whose text code is nearest."""

from collections.abc import Callable, Sequence

from torch import Tensor

from sparse_encoder.contrastive import unit
from sparse_encoder.templates import ZEROSHOT_TEMPLATES


def class_codes(classes: Sequence[str], encode_texts: Callable[[list[str]], Tensor]) -> Tensor:
    """Unit code of each class: the mean over templates of unit codes, (classes, features)."""
    total: Tensor | None = None
    for template in ZEROSHOT_TEMPLATES:
        code = unit(encode_texts([template.format(c) for c in classes]))
        total = code if total is None else total + code
    assert total is not None
    return unit(total)


def accuracy(image: Tensor, classes: Tensor, label: Tensor) -> float:
    """Top-1 share in [0, 1]. image: (images, features), classes: (classes, features), unit rows."""
    return float(((image @ classes.T).argmax(1) == label).float().mean())
