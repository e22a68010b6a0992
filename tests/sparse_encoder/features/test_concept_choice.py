"""Features chosen on photographs that show a concept: against a plain twin, and what never happens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.features import concept_choice
from sparse_encoder.features.columns import ImageColumns
from sparse_encoder.features.concept_choice import LOUDEST, choose_concept_features

N_IMAGES, N_FEATURES = 24, 10


def columns_of(code: Tensor) -> ImageColumns:
    rows = Codes.from_dense(code)
    image = torch.repeat_interleave(torch.arange(len(code)), rows.offset.diff())
    order = rows.index.argsort(stable=True)
    offset = torch.zeros(code.shape[1] + 1, dtype=torch.int64)
    offset[1:] = torch.bincount(rows.index, minlength=code.shape[1]).cumsum(0)
    return ImageColumns(image[order], rows.value[order], offset, [[] for _ in code])


def chosen(
    code: Tensor, images: list[int], text: Tensor | None = None, allowed: Tensor | None = None
) -> tuple[int, ...]:
    text = torch.ones(code.shape[1]) if text is None else text
    found = choose_concept_features(
        columns_of(code),
        {"dog": images},
        {"dog": "dogs"},
        lambda texts: text.expand(len(texts), -1),
        torch.ones(code.shape[1]),
        torch.ones(code.shape[1], dtype=torch.bool) if allowed is None else allowed,
    )
    return found.get("dogs", ())


def plain(code: Tensor, images: list[int]) -> list[int]:
    """The rule as the docstring has it, one image and one feature at a time."""
    shows = [i in images for i in range(len(code))]
    loud = code.clamp(max=1)
    gain = [
        sum(float(loud[i, f]) for i in range(len(code)) if shows[i]) / sum(shows)
        - sum(float(loud[i, f]) for i in range(len(code)) if not shows[i])
        / (len(code) - sum(shows))
        for f in range(code.shape[1])
    ]
    left = [f for f in range(code.shape[1]) if gain[f] > 0]
    out: list[int] = []
    while left and len(out) < concept_choice.N_FEATURES:
        values = {}
        for f in left:
            roots = [
                sum(min(float(code[i, g]), LOUDEST) for g in [*out, f]) ** 0.5
                for i in range(len(code))
            ]
            on = [r for r, s in zip(roots, shows, strict=True) if s]
            off = [r for r, s in zip(roots, shows, strict=True) if not s]
            values[f] = sum(on) / len(on) - sum(off) / len(off)
        out.append(max(left, key=lambda f: values[f]))
        left.remove(out[-1])
    return out


@given(seed=st.integers(0, 2**31 - 1), n=st.integers(1, N_IMAGES - 1))
@settings(max_examples=30, deadline=None)
def test_the_choice_is_that_of_the_plain_rule(seed: int, n: int) -> None:
    random = torch.Generator().manual_seed(seed)
    shape = N_IMAGES, N_FEATURES
    code = 3 * torch.rand(shape, generator=random) * (torch.rand(shape, generator=random) < 0.4)
    images = torch.randperm(N_IMAGES, generator=random)[:n].sort().values.tolist()
    assert list(chosen(code, images)) == plain(code, images)


def test_blocks_of_words_and_features_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(1)
    code = torch.rand(N_IMAGES, N_FEATURES, generator=random)
    whole = chosen(code, [1, 4, 6])
    monkeypatch.setattr(concept_choice, "FEATURE_BLOCK", 3)
    assert chosen(code, [1, 4, 6]) == whole


def test_images_that_no_feature_covers_yet_come_before_louder_ones() -> None:
    code = torch.zeros(8, 4)
    code[:2, 0] = 1.0  # two of the three images
    code[:2, 1] = 0.9  # the same two again
    code[2, 2] = 1.0  # the third
    assert chosen(code, [0, 1, 2]) == (0, 2, 1)


def test_what_the_text_lacks_or_is_not_allowed_stands_for_nothing() -> None:
    code = torch.zeros(6, 3)
    code[:3] = 1.0
    text, allowed = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([True, True, False])
    assert chosen(code, [0, 1, 2], text, allowed) == (0,)
    assert chosen(code, [0, 1, 2], torch.tensor([0.0, 0.0, 1.0]), allowed) == ()
    assert chosen(code, [3, 4], text) == ()  # what others have more of is none of its features
