"""Top-k against a naive loop and torchmetrics; templates as CLIP has them."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy

from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.evaluate import DEFAULT_TEMPLATES
from sparse_encoder.evaluation.zeroshot import (
    TopKHits,
    accuracy,
    class_codes,
    label_index,
    template_set,
)
from sparse_encoder.templates import IMAGENET_TEMPLATES, LABEL_TEMPLATES, TEMPLATE_SETS

seeds = st.integers(0, 2**31 - 1)


@given(
    seed=seeds,
    n=st.integers(1, 9),
    n_classes=st.integers(1, 7),
    batch=st.integers(1, 4),
    k=st.integers(1, 6),
)
def test_top_k_in_batches_equals_a_double_loop(
    seed: int, n: int, n_classes: int, batch: int, k: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 4, (n_classes,), generator=random)
    classes = torch.cat([torch.eye(3), torch.zeros(1, 3)])[which]  # with ties and a zero row
    code = torch.randint(0, 2, (n, 3), generator=random).float()
    label = torch.randint(0, n_classes, (n,), generator=random)
    hits = TopKHits(classes, ks=(k,))
    for rows in torch.arange(n).split(batch):
        hits.add(code[rows], label[rows])
    found = 0
    for i in range(n):
        own = float(unit(code[i]) @ classes[label[i]])
        rivals = sum(
            float(unit(code[i]) @ classes[c]) >= own for c in range(n_classes) if c != label[i]
        )
        found += rivals < k
    assert hits.share(k) == found / n
    assert hits.chance(k) == min(1, k / n_classes)


@given(seed=seeds, n=st.integers(1, 12), n_classes=st.integers(2, 8), k=st.integers(1, 2))
def test_top_k_equals_that_of_torchmetrics(seed: int, n: int, n_classes: int, k: int) -> None:
    random = torch.Generator().manual_seed(seed)
    classes = unit(torch.rand(n_classes, 5, generator=random))
    code = torch.rand(n, 5, generator=random)  # no ties, by chance
    label = torch.randint(0, n_classes, (n,), generator=random)
    hits = TopKHits(classes, ks=(k,))
    hits.add(code, label)
    other = MulticlassAccuracy(n_classes, top_k=k, average="micro")
    assert hits.share(k) == pytest.approx(float(other(unit(code) @ classes.T, label)))
    if k == 1:
        assert hits.share(1) == pytest.approx(accuracy(unit(code), classes, label))


def test_a_code_that_says_nothing_hits_nothing() -> None:
    hits = TopKHits(unit(torch.rand(3, 4)), ks=(1, 2))
    hits.add(torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64))
    assert (hits.share(1), hits.share(2)) == (0, 0)


def test_zero_shot_picks_the_class_whose_text_is_nearest() -> None:
    codes = class_codes(
        ["cat", "dog"],
        lambda texts: torch.tensor([[1.0, 0.1] if "cat" in t else [0.1, 1.0] for t in texts]),
    )
    images = unit(torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]))
    assert accuracy(images, codes, torch.tensor([0, 1, 1])) == torch.tensor(2 / 3).item()


def test_a_class_is_the_mean_over_templates_of_unit_codes() -> None:
    def encode(texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float(len(t)), 1.0] for t in texts])

    templates = ("{}", "a photo of a {}.")
    expected = unit(sum(unit(encode([t.format("cat")])) for t in templates))
    assert torch.allclose(class_codes(["cat"], encode, templates), expected)


def test_the_80_templates_are_those_of_clip() -> None:
    assert len(set(IMAGENET_TEMPLATES)) == 80
    assert all(t.count("{}") == 1 and t.format("x") for t in IMAGENET_TEMPLATES)
    # Of open_clip 3.3.0's OPENAI_IMAGENET_TEMPLATES, joined by newlines, with {} for the class.
    digest = hashlib.sha256("\n".join(IMAGENET_TEMPLATES).encode()).hexdigest()
    assert digest == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"


def test_the_templates_of_shipped_figures_stay_as_they_were() -> None:
    assert TEMPLATE_SETS[DEFAULT_TEMPLATES] == LABEL_TEMPLATES[:6] == template_set("mini")
    assert TEMPLATE_SETS["mini"][-1] == "The main subject is a {}."


def test_labels_are_places_among_the_names() -> None:
    assert label_index(["b", "a", "b"], ["a", "b"], "pets").tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: template_set("imagenet"), "imagenet80"),
        (lambda: class_codes([], lambda texts: torch.zeros(len(texts), 2)), "0 names"),
        (lambda: class_codes(["a"], lambda t: torch.zeros(1, 2), ()), "0 templates"),
        (lambda: label_index(["cow", None], ["cat"], "pets"), "pets has labels .* None, cow"),
        (lambda: TopKHits(torch.ones(1, 2)).share(1), "no input"),
    ],
)
def test_a_task_that_is_none_is_refused(call: object, word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        call()  # type: ignore[operator]
