"""Zero-shot classification: the class whose text code is nearest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.templates import TEMPLATE_SETS, ZEROSHOT_TEMPLATES

KS = (1, 5)


def class_codes(
    classes: Sequence[str],
    encode_texts: Callable[[list[str]], Tensor],
    templates: Sequence[str] = ZEROSHOT_TEMPLATES,
) -> Tensor:
    """Unit code of each class: the mean over templates of unit codes, (classes, features).

    Raises SparsightError without classes or templates.
    """
    if not classes or not templates:
        raise SparsightError(
            f"zero-shot classification needs names and templates, but there are {len(classes)} "
            f"names and {len(templates)} templates",
            param="data",
        )
    total: Tensor | None = None
    for template in tqdm(templates, desc="class names", unit="template", delay=2, leave=False):
        code = unit(encode_texts([template.format(c) for c in classes]))
        total = code if total is None else total + code
    assert total is not None
    return unit(total)


def template_set(name: str) -> tuple[str, ...]:
    """The templates called `name`; raises SparsightError, which lists the names, for another."""
    if name not in TEMPLATE_SETS:
        raise SparsightError(
            f"no templates {name!r}; known: {', '.join(TEMPLATE_SETS)}", param="templates"
        )
    return TEMPLATE_SETS[name]


def accuracy(image: Tensor, classes: Tensor, label: Tensor) -> float:
    """Top-1 share in [0, 1]. image: (images, features), classes: (classes, features), unit rows."""
    return float(((image @ classes.T).argmax(1) == label).float().mean())


@dataclass
class TopKHits:
    """Counts in how many inputs the true class is among the k nearest, batch by batch."""

    classes: Tensor  # unit codes (classes, features)
    ks: tuple[int, ...] = KS
    n: int = 0
    hits: dict[int, int] = field(default_factory=dict)

    def add(self, code: Tensor, label: Tensor) -> None:
        """code: (batch, features), normalised here. label: (batch,) int64.

        Ties count against us: a code that says nothing is near to no class.
        """
        similarity = unit(code) @ self.classes.T  # (batch, classes)
        own = similarity.gather(1, label[:, None].to(similarity.device))
        rank = (similarity >= own).sum(1) - 1
        for k in self.ks:
            self.hits[k] = self.hits.get(k, 0) + int((rank < k).sum())
        self.n += len(label)

    def share(self, k: int) -> float:
        """Top-k share in [0, 1], higher is better; chance is k / classes."""
        if not self.n:
            raise SparsightError("no input was classified, so there is no share", param="data")
        return self.hits[k] / self.n

    def chance(self, k: int) -> float:
        return min(k / len(self.classes), 1.0)


def label_index(labels: Sequence[str | None], names: Sequence[str], where: str) -> Tensor:
    """Place of each label among `names`, (labels,) int64; `where` is the set, for the message."""
    place = {name: i for i, name in enumerate(names)}
    unknown = sorted({str(label) for label in labels if label not in place})
    if unknown:
        raise SparsightError(
            f"{where} has labels that are none of its {len(names)} class names: "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}; "
            "add them to classes.json",
            param="data",
        )
    return torch.tensor([place[str(label)] for label in labels], dtype=torch.int64)
