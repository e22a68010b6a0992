"""Recall against naive double loops and against torchmetrics."""

from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.retrieval import RetrievalHitRate

from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.retrieval import chance_recall, recall

seeds = st.integers(0, 2**31 - 1)


def naive_recall(
    text: Tensor, image: Tensor, owner: Tensor, ks: tuple[int, ...]
) -> dict[str, float]:
    similarity = (text @ image.T).tolist()
    n_texts, n_images = len(text), len(image)
    found = {}
    for k in ks:
        hits = [
            sum(similarity[t][i] >= similarity[t][owner[t]] for i in range(n_images)) - 1 < k
            for t in range(n_texts)
        ]
        found[f"t2i@{k}"] = torch.tensor(hits).float().mean().item()
        rows = []
        for i in range(n_images):
            own = [t for t in range(n_texts) if owner[t] == i]
            if own:
                best = max(similarity[t][i] for t in own)
                rivals = sum(similarity[t][i] >= best for t in range(n_texts) if t not in own)
                rows.append(rivals < k)
        found[f"i2t@{k}"] = torch.tensor(rows).float().mean().item()
    return found


@given(
    seed=seeds,
    n_images=st.integers(1, 8),
    n_texts=st.integers(1, 14),
    block=st.integers(1, 6),
    ties=st.booleans(),
)
def test_recall_in_blocks_equals_a_double_loop(
    seed: int, n_images: int, n_texts: int, block: int, ties: bool
) -> None:
    random = torch.Generator().manual_seed(seed)

    def codes(n: int) -> Tensor:
        # Few distinct entries of one non-zero feature each: exact in fp32, with ties and zero rows.
        if ties:
            which = torch.randint(0, 4, (n,), generator=random)
            return torch.cat([torch.eye(3), torch.zeros(1, 3)])[which]
        return unit(torch.rand(n, 3, generator=random, dtype=torch.float64))

    text, image = codes(n_texts), codes(n_images)
    owner = torch.randint(0, n_images, (n_texts,), generator=random)
    assert recall(text, image, owner, (1, 2), block=block) == naive_recall(
        text, image, owner, (1, 2)
    )


@given(seed=seeds, n=st.integers(2, 6), k=st.integers(1, 5), block=st.integers(1, 12))
def test_recall_equals_the_hit_rate_of_torchmetrics(seed: int, n: int, k: int, block: int) -> None:
    random = torch.Generator().manual_seed(seed)
    text = unit(torch.rand(2 * n, 6, generator=random))
    image = unit(torch.rand(n, 6, generator=random))
    owner = torch.arange(n).repeat_interleave(2)
    similarity = text @ image.T  # no ties, by chance
    relevant = owner[:, None] == torch.arange(n)
    query = torch.arange(2 * n)[:, None].expand(-1, n)
    t2i = RetrievalHitRate(top_k=k)(
        similarity.flatten(), relevant.flatten(), indexes=query.flatten()
    )
    query = torch.arange(n).expand(2 * n, -1)
    i2t = RetrievalHitRate(top_k=k)(
        similarity.flatten(), relevant.flatten(), indexes=query.flatten()
    )
    found = recall(text, image, owner, (k,), block=block)
    assert found[f"t2i@{k}"] == pytest.approx(float(t2i))
    assert found[f"i2t@{k}"] == pytest.approx(float(i2t))


def test_no_block_is_larger_than_asked_for() -> None:
    class Rows:
        largest = 0

        def __init__(self, codes: Tensor) -> None:
            self.codes = codes

        def __len__(self) -> int:
            return len(self.codes)

        def __getitem__(self, index: Tensor) -> Tensor:
            Rows.largest = max(Rows.largest, len(index))
            return self.codes[index]

    codes = unit(torch.rand(30, 4, generator=torch.Generator().manual_seed(0)))
    owner = torch.arange(30)
    assert recall(Rows(codes), Rows(codes), owner, block=7) == recall(codes, codes, owner)
    assert Rows.largest == 7


def test_codes_that_are_all_alike_recall_nothing() -> None:
    same = unit(torch.ones(4, 3))
    assert recall(same, same, torch.arange(4), ks=(1,)) == {"t2i@1": 0, "i2t@1": 0}
    assert recall(same, same, torch.arange(4), ks=(1,), block=3)["t2i@1"] == 0


def test_images_without_a_text_are_rivals_but_are_not_asked_for() -> None:
    text, image = torch.eye(3)[:1], torch.eye(3)
    assert recall(text, image, torch.tensor([0]), ks=(1,)) == {"t2i@1": 1, "i2t@1": 1}
    image = torch.stack([torch.eye(3)[1], torch.eye(3)[0]])  # the image without a text is nearer
    assert recall(text, image, torch.tensor([0]), ks=(1,))["t2i@1"] == 0


def test_one_image_is_found_by_anyone_as_chance_says() -> None:
    one = unit(torch.rand(1, 4))
    assert recall(one, one, torch.tensor([0]), ks=(1,)) == chance_recall(torch.tensor([0]), 1, (1,))


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any), k=st.integers(1, 6))
def test_chance_is_that_of_a_random_order(counts: list[int], k: int) -> None:
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    n_texts, asked = len(owner), [c for c in counts if c]
    drawn = min(k, n_texts)
    hit = [1 - comb(n_texts - m, drawn) / comb(n_texts, drawn) for m in asked]
    found = chance_recall(owner, len(counts), (k,))
    assert found[f"i2t@{k}"] == pytest.approx(sum(hit) / len(hit))
    assert found[f"t2i@{k}"] == min(1, k / len(counts))


@pytest.mark.parametrize(
    ("n_texts", "n_images", "owner", "word"),
    [
        (0, 3, [], "0 texts"),
        (2, 0, [0, 0], "0 images"),
        (2, 2, [0, 2], "0 to 2"),
        (2, 2, [-1, 0], "-1"),
        (2, 2, [0], "1 texts"),
    ],
)
def test_what_cannot_be_retrieved_is_refused(
    n_texts: int, n_images: int, owner: list[int], word: str
) -> None:
    with pytest.raises(SparsightError, match=word):
        recall(
            torch.ones(n_texts, 2), torch.ones(n_images, 2), torch.tensor(owner, dtype=torch.int64)
        )
